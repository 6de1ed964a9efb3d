//! Compiles `proto/` without protoc, and gives every message with personal or secret fields a `Debug` that
//! shows only its public fields. A field without a data class stops the build.

use std::{collections::BTreeSet, env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, Value};

const PACKAGE: &str = "sandyq.v1";
const PUBLIC: i32 = 1;
const PERSONAL: i32 = 3;

const FILES: [&str; 17] = [
    "proto/sandyq/v1/options.proto",
    "proto/sandyq/v1/vault.proto",
    "proto/sandyq/v1/consent.proto",
    "proto/sandyq/v1/subject.proto",
    "proto/sandyq/v1/document.proto",
    "proto/sandyq/v1/policy.proto",
    "proto/sandyq/v1/platform.proto",
    "proto/sandyq/v1/proposal.proto",
    "proto/sandyq/v1/operation.proto",
    "proto/sandyq/v1/key.proto",
    "proto/sandyq/v1/retention.proto",
    "proto/sandyq/v1/rights.proto",
    "proto/sandyq/v1/breach.proto",
    "proto/sandyq/v1/register.proto",
    "proto/sandyq/v1/backup.proto",
    "proto/sandyq/v1/residency.proto",
    "proto/sandyq/v1/audit.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo hands OUT_DIR to build scripts in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();
    // Encoded by the compiler, not by prost: prost's descriptor types drop custom options.
    let encoded = compiler.encode_file_descriptor_set();
    let pool = DescriptorPool::decode(encoded.as_slice())?;
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut config = tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // One of these messages is far larger than the others.
        .boxed(".sandyq.v1.AssessBreachResponse.step.breach")
        .boxed(".sandyq.v1.ExportBreachSubjectsResponse.step.breach")
        .boxed(".sandyq.v1.RegisterRecipientResponse.outcome.applied")
        .boxed(".sandyq.v1.UpdateRecipientKeyResponse.outcome.applied")
        .bytes(".sandyq.v1.LogTile")
        .bytes(".sandyq.v1.LogEntryBundle");
    let mut redacted = String::new();
    for message in pool.all_messages().filter(|m| m.package_name() == PACKAGE) {
        let classes = message.fields().map(|f| class_of(&f)).collect::<Result<Vec<_>, _>>()?;
        if classes.iter().any(|class| *class >= PERSONAL) {
            config = config.skip_debug([message.full_name()]);
            write_redacted_debug(&mut redacted, &message)?;
        }
    }
    fs::write(out.join("redacted_debug.rs"), redacted)?;
    fs::write(out.join("sandyq_descriptor.bin"), &encoded)?;
    config.compile_fds(descriptors)?;
    Ok(())
}

/// The number of the `DataClass` that a field declares.
fn class_of(field: &FieldDescriptor) -> Result<i32, Box<dyn Error>> {
    let extension = field
        .parent_pool()
        .get_extension_by_name("sandyq.v1.data_class")
        .ok_or("sandyq.v1.data_class is not declared")?;
    let options: DynamicMessage = field.options();
    let class = options.get_extension(&extension);
    let number = if let Value::EnumNumber(number) = class.as_ref() { *number } else { 0 };
    if number > 0 { Ok(number) } else { Err(format!("{} declares no data_class", field.full_name()).into()) }
}

fn write_redacted_debug(out: &mut String, message: &MessageDescriptor) -> Result<(), Box<dyn Error>> {
    let name = message.name();
    write!(
        out,
        "impl ::core::fmt::Debug for {name} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        f.debug_struct(\"{name}\")"
    )?;
    for field in message.fields() {
        let plain = field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic());
        if plain && class_of(&field)? == PUBLIC {
            let field = field.name();
            write!(out, "\n            .field(\"{field}\", &self.{field})")?;
        }
    }
    out.push_str("\n            .finish_non_exhaustive()\n    }\n}\n");

    // prost puts the oneofs of a message into a module of its own.
    let oneofs: BTreeSet<String> =
        message.oneofs().filter(|o| !o.is_synthetic()).map(|o| o.name().to_owned()).collect();
    for oneof in oneofs {
        let module = snake(name);
        let kind = camel(&oneof);
        write!(
            out,
            "impl ::core::fmt::Debug for {module}::{kind} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        f.write_str(\"{kind}(redacted)\")\n    }}\n}}\n"
        )?;
    }
    Ok(())
}

fn snake(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn camel(snake: &str) -> String {
    snake
        .split('_')
        .filter_map(|part| part.split_at_checked(1))
        .map(|(head, tail)| head.to_ascii_uppercase() + tail)
        .collect()
}

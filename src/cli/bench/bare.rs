//! The ceilings: a server with the vault's TLS and none of its layers. `echo` answers what it was built with; `select`
//! looks the token up first, one indexed SELECT a call, without policy, audit or decryption. Both speak Detokenize, so
//! the same client measures all three. `independent` is `echo` without tonic. `store` takes the stream of an upload and stores its parts where the vault would,
//! one after the other and each durable before the next, but unsealed. It checks the hash that the stream declares, as whoever
//! takes that stream has to.

use std::{
    convert::Infallible,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use clap::ValueEnum;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{ClientStreamingService, Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::{Failure, independent};
use crate::{
    blobs::parts::{PartName, Parts},
    cli::serve::DOCUMENTS_LIMIT,
    config::{Config, Database},
    crypto::{digest::token_hash, document::ContentHash, random::SystemRng},
    domain::{
        ids::{ObjectId, PlatformId, UploadId},
        token::Token,
    },
    grpc::{
        block_list::BlockList,
        pb,
        tls::{incoming, server_tls},
    },
    store::ceiling::Ceiling,
};

/// Connections of `select` to SQLite: as many readers as the vault has.
const READERS: u32 = 4;
/// Bytes of a part, as the vault has them.
const PART_BYTES: usize = 1 << 20;

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Independent,
    Select,
    Store,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Independent => "independent",
            Self::Select => "select",
            Self::Store => "store",
        }
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What a call does.
    kind: Kind,
    /// The configuration whose certificates and database are taken.
    #[arg(long)]
    config: PathBuf,
}

/// The database of a configuration, without its vault.
pub(super) async fn ceiling(config: &Config) -> Result<Ceiling, Failure> {
    Ok(match config.database()? {
        Database::Sqlite(path) => Ceiling::sqlite(&path, READERS).await?,
        Database::Postgres(options) => Ceiling::postgres(&options).await?,
    })
}

/// Serves, says where, and ends when stdin does.
pub(super) async fn serve(args: &Args) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let files = config.tls()?;
    let tls = server_tls(&files.certificate, &files.key, &files.authorities, BlockList::default())?;
    let ceiling = match args.kind {
        Kind::Echo | Kind::Independent | Kind::Store => None,
        Kind::Select => Some(ceiling(&config).await?),
    };
    let parts = match args.kind {
        Kind::Echo | Kind::Independent | Kind::Select => None,
        Kind::Store => Some(Parts::create(&config.resolve(Path::new("unsealed")), DOCUMENTS_LIMIT)?),
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let kind = args.kind;
    let serving = async move {
        if kind == Kind::Independent {
            independent::serve(listener, tls).await;
            return Ok(());
        }
        Server::builder()
            .add_service(Bare { ceiling })
            .add_optional_service(parts.map(|parts| BareStore { parts }))
            .serve_with_incoming(incoming(listener, tls, || false))
            .await
    };
    writeln!(std::io::stdout().lock(), "{address}")?;
    tokio::select! {
        served = serving => Ok(served?),
        ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)) => Ok(ended?),
    }
}

/// As many bytes as the vault's own answer has.
pub(super) fn as_long_an_answer() -> pb::DetokenizeResponse {
    pb::DetokenizeResponse {
        value: "Сынақова".to_owned(),
        field: "surname".to_owned(),
        view: pb::View::Full.into(),
        audit_entry_id: "ent_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
    }
}

#[derive(Clone)]
struct Bare {
    ceiling: Option<Ceiling>,
}

impl NamedService for Bare {
    const NAME: &'static str = "sandyq.v1.VaultService";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let bare = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(bare, request).await) })
    }
}

impl UnaryService<pb::DetokenizeRequest> for Bare {
    type Response = pb::DetokenizeResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<pb::DetokenizeRequest>) -> Self::Future {
        let ceiling = self.ceiling.clone();
        Box::pin(async move {
            if let Some(ceiling) = ceiling {
                let token = Token::parse(&request.get_ref().token);
                let token = token.map_err(|e| Status::invalid_argument(e.to_string()))?;
                let found = ceiling.select(token_hash(&token)).await;
                if !found.map_err(|e| Status::unavailable(e.to_string()))? {
                    return Err(Status::not_found("there is no such token"));
                }
            }
            Ok(Response::new(as_long_an_answer()))
        })
    }
}

/// Stores what streams in.
#[derive(Clone)]
struct BareStore {
    parts: Parts,
}

impl NamedService for BareStore {
    const NAME: &'static str = "sandyq.v1.DocumentService";
}

impl Service<http::Request<Body>> for BareStore {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let store = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).client_streaming(store, request).await) })
    }
}

impl ClientStreamingService<pb::UploadDocumentRequest> for BareStore {
    type Response = pb::UploadDocumentResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<Streaming<pb::UploadDocumentRequest>>) -> Self::Future {
        let parts = self.parts.clone();
        Box::pin(async move {
            store(&parts, request.into_inner()).await?;
            Ok(Response::new(pb::UploadDocumentResponse::default()))
        })
    }
}

/// Stores a stream in parts.
async fn store(parts: &Parts, mut stream: Streaming<pb::UploadDocumentRequest>) -> Result<(), Status> {
    let failed = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
    let rng = SystemRng::new();
    let upload = UploadId::random(&rng).map_err(|e| failed(&e))?;
    let (mut part, mut hash, mut declared) = (Vec::with_capacity(PART_BYTES), ContentHash::default(), None);
    loop {
        let message = stream.message().await?;
        let ended = message.is_none();
        let message = message.unwrap_or_default();
        declared = declared.or(message.start.map(|start| start.sha256));
        hash.update(&message.data);
        part.extend(message.data);
        if part.len() >= PART_BYTES || (ended && !part.is_empty()) {
            let object = ObjectId::random(&rng).map_err(|e| failed(&e))?;
            let name = PartName { platform: PlatformId::VAULT, upload, object };
            let full = std::mem::replace(&mut part, Vec::with_capacity(PART_BYTES));
            parts.put(&name, full).await.map_err(|e| failed(&e))?;
        }
        if ended {
            let declared = declared.and_then(|sha256| sha256.try_into().ok());
            let is_as_declared = declared.is_some_and(|sha256| hash.is(&sha256));
            let refused = || Status::invalid_argument("the content has not the hash that was declared");
            return is_as_declared.then_some(()).ok_or_else(refused);
        }
    }
}

//! `sandyq health`.

use std::time::Duration;

use serde_json::json;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::output::{Failure, Out, exit};
use crate::grpc::health::READY;

const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Address of the process's `[health]`, such as `http://127.0.0.1:9464`.
    #[arg(value_name = "URL")]
    url: String,
    /// What to ask of: `sandyq.live`, `sandyq.ready`, `sandyq.kms`, or a service of the contract.
    #[arg(long, value_name = "NAME", default_value = READY)]
    service: String,
}

/// Fails where the answer is not SERVING, so that scripts and probes see it.
pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let endpoint = Endpoint::from_shared(args.url.clone())?;
    let channel = endpoint.connect_timeout(ANSWERS_WITHIN).timeout(ANSWERS_WITHIN).connect().await?;
    let request = HealthCheckRequest { service: args.service.clone() };
    let answer = HealthClient::new(channel).check(request).await.map_err(|status| {
        Failure::new(exit::FAILED, format!("{} of {}: {}", args.service, args.url, status.message()))
    })?;
    let status = answer.into_inner().status();
    let name = status.as_str_name();
    out.data(&json!({ "service": args.service, "status": name }), &[format!("{} {name}", args.service)])?;
    if status == ServingStatus::Serving {
        Ok(())
    } else {
        Err(Failure::new(exit::FAILED, format!("{} is {name}", args.service)))
    }
}

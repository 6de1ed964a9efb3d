//! The ceilings: a server with the vault's TLS and none of its layers. `echo` answers what it was built with; `select`
//! looks the token up first, one indexed SELECT a call, without policy, audit or decryption. Both speak Detokenize, so
//! the same client measures all three.

use std::{
    convert::Infallible,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    task::{Context, Poll},
};

use clap::ValueEnum;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::Failure;
use crate::{
    config::{Config, Database},
    crypto::digest::token_hash,
    domain::token::Token,
    grpc::{
        block_list::BlockList,
        pb,
        tls::{incoming, server_tls},
    },
    store::ceiling::Ceiling,
};

/// Connections of `select` to SQLite: as many readers as the vault has.
const READERS: u32 = 4;

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Select,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Select => "select",
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
        Kind::Echo => None,
        Kind::Select => Some(ceiling(&config).await?),
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let serving =
        Server::builder()
            .add_service(Bare { ceiling })
            .serve_with_incoming(incoming(listener, tls, || false));
    writeln!(std::io::stdout().lock(), "{address}")?;
    tokio::select! {
        served = serving => Ok(served?),
        ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)) => Ok(ended?),
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
            // As many bytes as the vault's own answer has.
            Ok(Response::new(pb::DetokenizeResponse {
                value: "Сынақова".to_owned(),
                field: "surname".to_owned(),
                view: pb::View::Full.into(),
                audit_entry_id: "ent_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
            }))
        })
    }
}

//! The load: a process of its own, as a platform's backend would be. It does one job after the other, keeps its
//! connections from job to job, and measures at the caller's side.

mod calls;
mod pace;
mod people;
mod uploads;

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tonic::transport::Channel;

use super::{
    Failure,
    job::{Counted, Job, Told},
};
use crate::{cli::client::connect, config::Connection};
use calls::{Caller, Held};

/// Most tokens that are kept to choose from. Of more, every second, third, … is taken: still all over the tables.
const TOKENS: usize = 1_000_000;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What the names of subjects begin with.
    #[arg(long)]
    run: String,
    /// Number of the first upload: two for each subject.
    #[arg(long, default_value_t = 0)]
    uploads_from: u64,
}

/// Does jobs until stdin ends.
pub(super) async fn serve(args: &Args) -> Result<(), Failure> {
    let mut load = Load::new(args);
    let mut lines = lines_of_stdin();
    while let Some(line) = lines.recv().await {
        let done = match serde_json::from_str(&line?) {
            Ok(job) => load.run(job).await,
            Err(error) => Err(error.into()),
        };
        tell(&match done {
            Ok(counted) => Told::Done(counted),
            Err(failure) => Told::Failed { message: failure.message().to_owned() },
        })?;
    }
    Ok(())
}

fn lines_of_stdin() -> tokio::sync::mpsc::UnboundedReceiver<io::Result<String>> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    // Nobody listens any more only where the process ends.
    std::thread::spawn(move || io::stdin().lines().try_for_each(|line| tell.send(line)).ok());
    told
}

fn tell(told: &Told) -> Result<(), Failure> {
    let line = serde_json::to_string(told)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// What is kept from job to job.
struct Load {
    channels: HashMap<(PathBuf, u32), Arc<[Channel]>>,
    tokens: HashMap<PathBuf, Arc<[Held]>>,
    names: Arc<Names>,
    image: Arc<uploads::Image>,
}

/// Names that no other run has given to a subject, each used once.
struct Names {
    run: String,
    next: AtomicU64,
    next_upload: AtomicU64,
}

impl Names {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The next side of a document, of the subjects that were stored first.
    fn next_upload(&self) -> u64 {
        self.next_upload.fetch_add(1, Ordering::Relaxed)
    }
}

impl Load {
    fn new(args: &Args) -> Self {
        let next_upload = AtomicU64::new(args.uploads_from);
        let names = Arc::new(Names { run: args.run.clone(), next: AtomicU64::new(0), next_upload });
        let image = Arc::new(uploads::Image::new());
        Self { channels: HashMap::new(), tokens: HashMap::new(), names, image }
    }

    async fn run(&mut self, job: Job) -> Result<Counted, Failure> {
        match job {
            Job::People { connection, count, tokens, images, ending } => {
                let channels = self.channels(&connection, people::CONNECTIONS).await?;
                self.tokens.remove(&tokens);
                let whom = people::Whom { names: Arc::clone(&self.names), count, images, ending };
                people::store(&channels, &whom, &tokens, |done| tell(&Told::Progress { done })).await
            }
            Job::Calls { sources, connections, call, purpose, pace, until } => {
                let mut callers = Vec::new();
                for source in &sources {
                    let channels = self.channels(&source.connection, connections).await?;
                    let storing = self.channels(&source.storing, connections).await?;
                    let tokens = self.tokens(&source.tokens)?;
                    let (names, image) = (Arc::clone(&self.names), Arc::clone(&self.image));
                    let kind = (call, purpose.clone());
                    callers.push(Caller::new(kind, [channels, storing], tokens, (names, image))?);
                }
                pace::run(pace::Callers::new(callers)?, pace, until).await
            }
        }
    }

    async fn channels(&mut self, connection: &Path, count: u32) -> Result<Arc<[Channel]>, Failure> {
        let key = (connection.to_owned(), count);
        if let Some(known) = self.channels.get(&key) {
            return Ok(Arc::clone(known));
        }
        let to = Connection::load(connection)?;
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(connect(&to).await?);
        }
        let channels: Arc<[Channel]> = channels.into();
        self.channels.insert(key, Arc::clone(&channels));
        Ok(channels)
    }

    fn tokens(&mut self, file: &Path) -> Result<Arc<[Held]>, Failure> {
        if let Some(known) = self.tokens.get(file) {
            return Ok(Arc::clone(known));
        }
        let text = std::fs::read_to_string(file)?;
        let step = text.lines().count().div_ceil(TOKENS).max(1);
        let tokens: Arc<[Held]> = text.lines().step_by(step).filter_map(Held::parse).collect();
        self.tokens.insert(file.to_owned(), Arc::clone(&tokens));
        Ok(tokens)
    }
}

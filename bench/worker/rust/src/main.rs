//! A worker and a replayer on the official Rust SDK, beside ../worker.cpp and ../replay.cpp.
//!
//!     rust_peer worker --address HOST:PORT --task-queue Q [--cache-size N]    until SIGINT
//!     rust_peer replay --history FILE.pb [--repeats N] [--warmup N]           one line of JSON

mod contract;

use std::error::Error;

use contract::{AddressEntity, Provision, ReplayLoop, Steps};
use prost::Message;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, WorkflowHistory};
use temporalio_common::protos::temporal::api::history::v1::History;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use url::Url;

type Outcome = Result<(), Box<dyn Error>>;

fn option(name: &str, otherwise: &str) -> String {
    let mut arguments = std::env::args();
    arguments.by_ref().find(|each| each == name);
    arguments.next().unwrap_or_else(|| otherwise.into())
}

async fn work() -> Outcome {
    let server = Url::parse(&format!("http://{}", option("--address", "127.0.0.1:7233")))?;
    let runtime = Runtime::from_current_tokio(Default::default())?;
    let connection = Connection::connect(ConnectionOptions::new(server).build()).await?;
    let client = Client::new(connection, ClientOptions::new("default").build())?;
    let mut options = WorkerOptions::new(option("--task-queue", "bench"))
        .register_activities(Steps)
        .register_workflow::<Provision>()?
        .register_workflow::<AddressEntity>()?
        .register_workflow::<ReplayLoop>()?
        .build();
    let cached: usize = option("--cache-size", "0").parse()?;
    if cached > 0 {
        options.max_cached_workflows = cached;
    }
    let mut worker = Worker::new(&runtime, client, options)?;
    let shutdown = worker.shutdown_handle();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        shutdown();
    });
    worker.run().await?;
    Ok(())
}

fn cpu_seconds() -> Result<f64, std::io::Error> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage writes the struct that it is given, and says whether it did.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

async fn replay() -> Outcome {
    let history = History::decode(std::fs::read(option("--history", ""))?.as_slice())?;
    let repeats: usize = option("--repeats", "20").parse()?;
    let warmup: usize = option("--warmup", "3").parse()?;
    let options = WorkflowReplayerOptions::new()
        .register_workflow::<Provision>()?
        .register_workflow::<AddressEntity>()?
        .register_workflow::<ReplayLoop>()?
        .build();
    let replayer = WorkflowReplayer::new(options)?;
    // A replay consumes its history: the copies are made before the clock is read.
    let copies = |n: usize| -> Vec<_> {
        std::iter::repeat_n(&history, n).map(|each| WorkflowHistory::from(each.clone())).collect()
    };
    let replay = async |histories: Vec<WorkflowHistory>| -> Outcome {
        for done in replayer.replay_workflows(histories).await? {
            if let Some(failure) = done.replay_failure {
                return Err(failure.into());
            }
        }
        Ok(())
    };
    replay(copies(warmup)).await?;
    let measured = copies(repeats);
    let before = cpu_seconds()?;
    replay(measured).await?;
    let cpu = cpu_seconds()? - before;
    let events = history.events.len();
    println!(
        "{{\"sdk\":\"rust\",\"workload\":\"replay\",\"events\":{events},\"repeats\":{repeats},\
         \"cpu_s\":{cpu:.6},\"events_per_cpu_s\":{:.0}}}",
        (events * repeats) as f64 / cpu
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => work().await,
        Some("replay") => replay().await,
        _ => Err("rust_peer worker | replay; see the head of main.rs".into()),
    }
}

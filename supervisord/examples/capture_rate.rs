//! Measures what capturing output costs, beside `cat` reading the same pipe in the same run:
//! `cargo run --profile release-dev --example capture_rate [DIRECTORY]`.
//!
//! Writer and reader are processes of their own, so that their CPU time can be told apart.
#![allow(clippy::disallowed_types, reason = "a measuring program has no other children to reap")]

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use supervisord::clock::now;
use supervisord::output::{LogSpec, Output};

/// What the writer does.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    write: usize,
    total: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "64 KiB writes", write: 64 << 10, total: 2 << 30 },
    Load { name: "100 B writes", write: 100, total: 200 << 20 },
];
const REPEATS: usize = 3;
const PIPE: usize = 1 << 20;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "write", size, total] => write(size.parse().expect("a size"), total.parse().expect("a size")),
        [_, "capture", path, maxbytes] => capture(path.into(), maxbytes.parse().expect("a size")),
        [_, directory] => compare(Path::new(directory)),
        _ => compare(&std::env::temp_dir()),
    }
}

fn write(size: usize, total: usize) -> io::Result<()> {
    let mut line = vec![b'x'; size];
    line[size - 1] = b'\n';
    // Not through `Stdout`, which buffers.
    let mut out = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    (0..total / size).try_for_each(|_| out.write_all(&line))
}

/// Captures stdin the way the daemon captures a program.
fn capture(path: PathBuf, maxbytes: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut output = Output::new()?;
        let spec =
            LogSpec { file: Some(path), mode: 0o600, maxbytes, backups: 3, syslog: None, strip_ansi: false };
        let log = output.add_log(spec);
        output.open(log).map_err(io::Error::other)?;
        let pipe = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        output.attach(pipe, log)?;
        while output.streams() > 0 {
            let wake = output.poll_timeout().unwrap_or_else(|| now().mono + Duration::from_secs(60));
            tokio::select! {
                () = output.ready() => {
                    let round = output.look();
                    output.pump(&round, now());
                }
                () = tokio::time::sleep_until(wake.into()) => output.handle_timeout(now()),
            }
        }
        Ok(())
    })
}

fn compare(directory: &Path) -> io::Result<()> {
    let file = directory.join("capture_rate.log");
    println!("in {}; median of {REPEATS}", directory.display());
    println!("{:14} {:22} {:>8} {:>12} {:>12}", "load", "reader", "MB/s", "reader s/GiB", "writer s/GiB");
    for load in LOADS {
        for (name, maxbytes) in [("cat", None), ("output", Some(0)), ("output, 50 MiB files", Some(50 << 20))]
        {
            let mut runs = Vec::new();
            for _ in 0..REPEATS {
                runs.push(measure(load, &file, maxbytes)?);
                for path in [file.clone(), numbered(&file, 1), numbered(&file, 2), numbered(&file, 3)] {
                    // Not every run makes every file.
                    let _ = std::fs::remove_file(path);
                }
            }
            let median = |pick: fn(&Run) -> f64| {
                let mut values: Vec<f64> = runs.iter().map(pick).collect();
                values.sort_by(f64::total_cmp);
                values[REPEATS / 2]
            };
            println!(
                "{:14} {:22} {:8.0} {:12.2} {:12.2}",
                load.name,
                name,
                median(|run| run.rate),
                median(|run| run.reader),
                median(|run| run.writer)
            );
        }
    }
    Ok(())
}

struct Run {
    rate: f64,
    reader: f64,
    writer: f64,
}

fn measure(load: Load, file: &Path, maxbytes: Option<u64>) -> io::Result<Run> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&read_end, PIPE)?;
    let own = std::env::current_exe()?;
    let start: Instant = now().mono;
    let mut reader = match maxbytes {
        None => Command::new("cat").stdin(read_end).stdout(std::fs::File::create(file)?).spawn()?,
        Some(maxbytes) => {
            let maxbytes = maxbytes.to_string();
            Command::new(&own)
                .args(["capture".as_ref(), file.as_os_str(), maxbytes.as_ref()])
                .stdin(read_end)
                .spawn()?
        }
    };
    let sizes = [load.write.to_string(), load.total.to_string()];
    let mut writer =
        Command::new(&own).arg("write").args(sizes).stdin(Stdio::null()).stdout(write_end).spawn()?;
    let writer = cpu_of(&mut writer)?;
    let reader = cpu_of(&mut reader)?;
    let elapsed = (now().mono - start).as_secs_f64();
    let gib = load.total as f64 / f64::from(1 << 30);
    Ok(Run { rate: load.total as f64 / 1e6 / elapsed, reader: reader / gib, writer: writer / gib })
}

/// Waits for a child; its CPU time in seconds.
fn cpu_of(child: &mut Child) -> io::Result<f64> {
    let before = children_cpu()?;
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("a measured process ended with {status}")));
    }
    Ok(children_cpu()? - before)
}

fn children_cpu() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    supervisord::output::rotate::backup(path, number)
}

//! What containers have printed: running and ended, with a terminal and without.

use std::process::Stdio;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt;
use libtest_mimic::Trial;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use wakegate::runtime::tail::{BYTES_MAX, LINE_BYTES_MAX};
use wakegate::runtime::{InstanceId, Runtime, RuntimeError};

use crate::app::{DONE, UNFINISHED};
use crate::bench::{Bench, From, LIMIT, random, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_last_lines_of_a_running_container_are_read", running),
        trial("the_last_lines_of_an_ended_container_are_read", ended),
        trial("a_container_whose_logs_cannot_be_read_says_so", unreadable),
    ]
}

/// A container of this trial that prints, started.
async fn started(bench: &Bench, image: &str, mode: &str, tty: bool) -> InstanceId {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec![mode.to_owned()]),
        tty: Some(tty),
        labels: Some([("wakegate.test".to_owned(), bench.mark.clone())].into()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default()
        .name(&random("wakegate-test"))
        .build();
    let made = bench.raw.create_container(Some(options), body);
    let id = made.await.unwrap().id;
    bench.raw.start_container(&id, None).await.unwrap();
    InstanceId::new(&id)
}

/// Returns when the engine has these lines of the container's, on either output.
async fn has_printed(id: &InstanceId, lines: &[&str]) {
    let mut logs = Command::new("sh")
        .args(["-c", "exec docker logs --follow \"$0\" 2>&1", id.as_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = logs.stdout.take().unwrap();
    let reading = async {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let text = String::from_utf8_lossy(&all);
            if lines.iter().all(|line| text.contains(line)) {
                break;
            }
            let read = output.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "the logs end without {lines:?}");
            all.extend_from_slice(&buffer[..read]);
        }
    };
    let reading = tokio::time::timeout(LIMIT, reading).await;
    reading.expect("it prints");
    logs.kill().await.unwrap();
}

/// What is expected of the end of the output, the oldest line first.
fn check(lines: &[String], tty: bool, has_ended: bool) {
    let (errors, lines): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .map(String::as_str)
        .partition(|line| line.starts_with("error "));
    assert_eq!(
        errors,
        ["error 1", "error 2", "error 3", "error 4", "error 5"]
    );
    let mut lines = lines.into_iter().rev();
    if has_ended {
        assert_eq!(lines.next(), Some(UNFINISHED));
    }
    assert_eq!(lines.next(), Some(DONE));
    assert_eq!(lines.next(), Some("red\ta\u{fffd}b"));
    assert_eq!(lines.next(), Some("begins with control characters"));
    let long = lines.next().unwrap();
    assert!(long.len() <= LINE_BYTES_MAX, "{}", long.len());
    let kept = long.strip_suffix('…').unwrap();
    assert!(kept.bytes().all(|b| b == b'x') && kept.len() > LINE_BYTES_MAX / 2);
    for number in (1..=100).rev() {
        assert_eq!(
            lines.next(),
            Some(format!("line {number}").as_str()),
            "tty: {tty}"
        );
    }
    assert_eq!(lines.next(), None);
}

async fn check_few(bench: &Bench, id: &InstanceId, all: &[String]) {
    for count in [0, 1, 3] {
        let lines = bench.docker.logs(id, count).await.unwrap();
        assert_eq!(lines.len(), count);
    }
    // The two outputs may come in either order, but for the last line.
    let last = bench.docker.logs(id, 1).await.unwrap();
    assert_eq!(last.last(), all.last());
    let bytes: usize = all.iter().map(String::len).sum();
    assert!(bytes <= BYTES_MAX);
}

async fn running(bench: Bench) {
    let image = format!("{}:1", bench.mark);
    bench.build(&image, From::Program, 10).await;
    for tty in [false, true] {
        let id = started(&bench, &image, "print-and-wait", tty).await;
        has_printed(&id, &[DONE, "error 5"]).await;
        let lines = bench.docker.logs(&id, 1_000).await.unwrap();
        // What has no end of line yet is still the engine's.
        check(&lines, tty, false);
        bench.docker.pause(&id).await.unwrap();
        assert_eq!(bench.docker.logs(&id, 1_000).await, Ok(lines));
    }
}

async fn ended(bench: Bench) {
    let image = format!("{}:1", bench.mark);
    bench.build(&image, From::Program, 10).await;
    for tty in [false, true] {
        let id = started(&bench, &image, "print", tty).await;
        let mut end = bench
            .raw
            .wait_container(id.as_str(), None::<WaitContainerOptions>);
        let end = tokio::time::timeout(LIMIT, end.next()).await.unwrap();
        assert_eq!(end.unwrap().unwrap().status_code, 0);
        let lines = bench.docker.logs(&id, 1_000).await.unwrap();
        check(&lines, tty, true);
        check_few(&bench, &id, &lines).await;
    }
}

async fn unreadable(bench: Bench) {
    let image = format!("{}:1", bench.mark);
    bench.build(&image, From::Program, 10).await;
    let mark = format!("wakegate.test={}", bench.mark);
    let create = async |arguments: &[&str]| {
        let create = [&["create"], arguments, &[&image, "print"]].concat();
        let id = String::from_utf8(bench.docker_command(&create).await).unwrap();
        InstanceId::new(id.trim())
    };
    let silent = create(&["--label", &mark, "--log-driver", "none"]).await;
    match bench.docker.logs(&silent, 10).await {
        Err(RuntimeError::Refused(words)) => assert!(words.contains("logging driver"), "{words}"),
        other => panic!("{other:?}"),
    }
    let unstarted = create(&["--label", &mark]).await;
    assert_eq!(bench.docker.logs(&unstarted, 10).await, Ok(Vec::new()));
    let foreign = create(&["--label", &bench.foreign()]).await;
    let logs = bench.docker.logs(&foreign, 10).await;
    assert_eq!(logs, Err(RuntimeError::NotFound(foreign.to_string())));
}

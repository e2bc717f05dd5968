//! Images are taken away when nothing needs them.

use libtest_mimic::Trial;
use wakegate::names::WorkloadName;
use wakegate::runtime::{InstanceId, Runtime, RuntimeError};
use wakegate::spec::WorkloadSpec;

use crate::bench::{Bench, From, random, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_unused_image_goes_and_may_be_gone", unused),
        trial("an_image_that_a_container_was_made_from_stays", used),
        trial("another_name_of_a_used_image_stays_too", other_names),
    ]
}

async fn unused(bench: Bench) {
    let (one, two) = (format!("{}:1", bench.mark), format!("{}:2", bench.mark));
    let id = bench.build(&one, From::Scratch, 1_000).await;
    bench.docker_command(&["tag", &one, &two]).await;
    assert_eq!(bench.docker.remove_image(&one).await, Ok(true));
    assert_eq!(bench.engines_id(&one).await, None);
    assert_eq!(bench.engines_id(&two).await, Some(id.clone()));
    assert_eq!(bench.docker.remove_image(&one).await, Ok(true));
    assert_eq!(bench.docker.remove_image(&two).await, Ok(true));
    assert_eq!(bench.engines_id(&id).await, None, "with its last name");
    for bad in ["", "a//b", "../images"] {
        let refused = bench.docker.remove_image(bad).await;
        assert!(
            matches!(refused, Err(RuntimeError::Refused(_))),
            "{refused:?}"
        );
    }
}

fn spec(image: &str) -> WorkloadSpec {
    let name = WorkloadName::new(&random("wakegate-test")).unwrap();
    WorkloadSpec {
        command: Some(vec!["wait".to_owned()]),
        ..WorkloadSpec::new(name, image)
    }
}

async fn used(bench: Bench) {
    let name = format!("{}:1", bench.mark);
    let id = bench.build(&name, From::Program, 1_000).await;
    let container = bench.docker.create(&spec(&name)).await.unwrap();
    let stays = async || {
        for reference in [&name, &id] {
            assert_eq!(bench.docker.remove_image(reference).await, Ok(false));
        }
        assert_eq!(bench.engines_id(&name).await, Some(id.clone()));
    };
    stays().await;
    bench.docker.start(&container).await.unwrap();
    stays().await;
    bench.docker.remove(&container).await.unwrap();

    // Whosesoever it is.
    let create = ["create", "--label", &bench.foreign(), &name, "wait"];
    let foreign = String::from_utf8(bench.docker_command(&create).await).unwrap();
    stays().await;
    bench.docker_command(&["rm", foreign.trim()]).await;
    assert_eq!(bench.docker.remove_image(&name).await, Ok(true));
    assert_eq!(bench.engines_id(&id).await, None);
}

/// The engine itself would take the name, and the container could not be made anew from it.
async fn other_names(bench: Bench) {
    let (one, two) = (format!("{}:1", bench.mark), format!("{}:2", bench.mark));
    let id = bench.build(&one, From::Scratch, 1_000).await;
    bench.docker_command(&["tag", &one, &two]).await;
    let container: InstanceId = bench.docker.create(&spec(&one)).await.unwrap();
    assert_eq!(bench.docker.remove_image(&one).await, Ok(false));
    assert_eq!(bench.docker.remove_image(&two).await, Ok(false));
    assert_eq!(bench.engines_id(&one).await, Some(id.clone()));
    assert_eq!(bench.engines_id(&two).await, Some(id.clone()));
    bench.docker.remove(&container).await.unwrap();
    // By its id it has two names, and the engine takes neither.
    bench
        .docker_command(&["tag", &one, &format!("{}/x:1", bench.mark)])
        .await;
    assert_eq!(bench.docker.remove_image(&id).await, Ok(false));
    assert_eq!(bench.engines_id(&id).await, Some(id));
}

//! Containers that are awake: Traefik goes straight to them.

use std::path::PathBuf;

use crate::bench::Bench;
use crate::lines;
use crate::visitor::{House, router_of};

lines![requests_to_what_is_awake_go_straight_to_it_and_never_through_the_gateway,];

async fn requests_to_what_is_awake_go_straight_to_it_and_never_through_the_gateway(
    bench: Bench,
    program: PathBuf,
) {
    let house = House::new(&bench, &program).await;
    let samples = [1, 2, 3, 4, 5].map(|n| house.routed(&n.to_string()));
    for sample in &samples {
        house.awake(sample).await;
    }
    for round in 0..3 {
        for (n, sample) in samples.iter().enumerate() {
            let path = sample.path(&format!("direct/{round}?n={n}"));
            let visit = house.get(&path).await;
            assert_eq!(visit.statuses(), [200], "{visit:?}");
            let report = visit.last().ok();
            assert_eq!(report["connstr"], format!("db {}", n + 1));
            assert_eq!(report["path"], sample.path(&format!("direct/{round}")));
        }
    }
    let answered = house.traefik.until_answered(15).await;
    for (request, sample) in answered.iter().zip(samples.iter().cycle()) {
        assert_eq!(request.router, router_of(sample));
        let address = house.gateway.client.view(sample.name()).await["address"].clone();
        assert_eq!(request.server, address.as_str().expect("an address"));
        assert_eq!(request.status, 200);
    }
    assert_eq!(answered.len(), 15);
    assert_eq!(house.gateways_requests(), 0);
}

//! A workload as it is shown.

use super::Workload;
use crate::lifecycle::fleet::View;
use crate::lifecycle::machine::Phase;
use crate::runtime::InstanceId;

impl Workload {
    pub fn view(&self) -> View {
        let now = self.core.clock.now();
        let inner = self.inner.lock();
        let machine = &inner.machine;
        let phase = machine.phase();
        let gate = match phase {
            Phase::Ready { gate, .. } | Phase::Draining { gate, .. } => Some(gate),
            _ => None,
        };
        let leases = gate.map_or(0, |gate| gate.leases());
        let ready = machine.open_gate();
        let address = ready.map(|gate| {
            let endpoint = gate.endpoint();
            match endpoint.port {
                Some(port) => std::net::SocketAddr::new(endpoint.address, port).to_string(),
                None => endpoint.address.to_string(),
            }
        });
        let idle = ready
            .filter(|_| leases == 0)
            .map(|gate| now.since(gate.last_used()));
        let idle_stop_seconds = match phase {
            Phase::Ready { idle, .. } => idle.sleep().map(|(after, _)| after.as_secs_f64()),
            _ => None,
        };
        let drain_seconds_left = match phase {
            Phase::Draining { deadline, .. } => Some(deadline.since(now).as_secs_f64()),
            _ => None,
        };
        View {
            id: machine.id().map(InstanceId::to_string).unwrap_or_default(),
            name: self.name.clone(),
            phase: phase.name(),
            reason: machine.reason().map(|reason| reason.to_string()),
            address,
            image: inner.about.image.clone(),
            labels: inner.about.labels.clone(),
            leases,
            waiting: self.held.taken(),
            idle_seconds: idle.map(|idle| idle.as_secs_f64()),
            idle_stop_seconds,
            drain_seconds_left,
            phase_seconds: now.since(machine.since()).as_secs_f64(),
        }
    }
}

//! What happens next, by chance.

use super::*;

impl World {
    pub(super) fn next_event(&mut self) {
        let Some(event) = self.events.pop_front() else {
            return;
        };
        // As the fleet does: a container that is not known by its id yet is looked at.
        let Event::Engine { id, kind, .. } = &event else {
            return;
        };
        let known = self.machine.id.as_ref() == Some(id);
        let id = id.clone();
        if *kind == Kind::Changed
            || (!known && matches!(kind, Kind::Started | Kind::Paused | Kind::Unpaused))
        {
            if self
                .container
                .as_ref()
                .is_some_and(|container| container.id == id)
            {
                self.look(&id);
                if *kind == Kind::Changed {
                    self.last_look_is_at_a_new_one();
                }
            }
        } else {
            self.step(event);
        }
    }

    pub(super) fn something_happens(&mut self) {
        if self.alone {
            return self.something_of_ours_happens();
        }
        let by_operator = self.random.u8(..5) == 0;
        let exit_code = Some(i64::from(self.random.u8(..2)));
        match self.random.u8(..100) {
            0..15 => self.step(Event::Wanted { by_operator }),
            15..20 => {
                let spec = WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image");
                let start = self.random.bool();
                self.step(Event::CreateOrdered {
                    spec: Box::new(spec),
                    start,
                });
            }
            20 => self.step(Event::RemoveOrdered),
            21 => self.rest(),
            22..32 => self.lease(),
            32..42 => drop(self.leases.pop()),
            42..46 => self.engine(Kind::Died { exit_code }),
            46..48 => self.engine(Kind::Ending),
            48..50 => self.engine(Kind::Started),
            50 => self.engine(Kind::Paused),
            51 => self.engine(Kind::Unpaused),
            52 => self.engine(Kind::Destroyed),
            53 => drop(self.create()),
            54 => {
                // The stream broke: what it had is lost, and everything is listed.
                self.events.clear();
                self.list();
            }
            55 => self.doubt(),
            56 => self.is_used(),
            57..70 => self.next_event(),
            70..85 if !self.orders.is_empty() => {
                let any = self.random.usize(..self.orders.len());
                self.order_at(any, true);
            }
            85..90 if !self.looks.is_empty() => {
                let look = self.looks.remove(self.random.usize(..self.looks.len()));
                self.step(look);
            }
            _ => self.time_passes(),
        }
    }

    /// The same with nobody but the gateway at work on the engine.
    pub(super) fn something_of_ours_happens(&mut self) {
        match self.random.u8(..100) {
            0..20 => {
                let by_operator = self.random.u8(..5) == 0;
                self.step(Event::Wanted { by_operator });
            }
            20..25 => {
                let spec = WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image");
                let start = self.random.bool();
                self.step(Event::CreateOrdered {
                    spec: Box::new(spec),
                    start,
                });
            }
            25 => self.step(Event::RemoveOrdered),
            26..30 => self.rest(),
            30..42 => self.lease(),
            42..50 => drop(self.leases.pop()),
            50 => self.doubt(),
            51 => self.is_used(),
            52..65 => self.next_event(),
            65..85 if !self.orders.is_empty() => self.order_at(0, true),
            85..90 if !self.looks.is_empty() => {
                let look = self.looks.remove(0);
                self.step(look);
            }
            _ => self.time_passes(),
        }
    }

    pub(super) fn rest(&mut self) {
        let drain = Duration::from_secs(self.random.u64(..20));
        self.step(Event::RestOrdered { drain });
    }

    pub(super) fn lease(&mut self) {
        if let Phase::Ready { gate, run, .. } = &self.machine.phase {
            let lease = gate
                .lease(true)
                .expect("a gate is open as long as its run is ready");
            self.leases.push((run.started_at, lease));
        }
    }

    /// By somebody who does not ask the gateway.
    pub(super) fn is_used(&mut self) {
        self.uses += 1;
        self.used_at = self.now;
    }

    /// A connection to it could not be made.
    pub(super) fn doubt(&mut self) {
        let serial = self
            .machine
            .open_gate()
            .map_or(0, |gate| gate.endpoint().serial);
        self.step(Event::Unanswered { serial });
    }

    pub(super) fn time_passes(&mut self) {
        self.now = self.now + Duration::from_millis(self.random.u64(1..4_000));
        self.step(Event::Tick);
    }
}

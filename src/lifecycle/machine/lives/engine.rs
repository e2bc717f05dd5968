//! The simulated engine: what it has, what it tells, how it carries out orders.

use super::*;

impl World {
    pub(super) fn look(&mut self, id: &InstanceId) {
        self.now = self.now + Duration::from_micros(1);
        let asked = self.now;
        let seen = self
            .container
            .as_ref()
            .filter(|container| container.id == *id);
        self.looks.push(match seen {
            None => Event::Missing {
                asked,
                id: id.clone(),
            },
            Some(Container { id, state }) => Event::Observed {
                asked,
                instance: Observation {
                    id: id.clone(),
                    state: *state,
                    address: None,
                    health: None,
                },
            },
        });
    }

    /// As the fleet does with what was made and never ran.
    pub(super) fn last_look_is_at_a_new_one(&mut self) {
        let Some(look) = self.looks.pop() else {
            return;
        };
        self.looks.push(match look {
            Event::Observed { asked, instance }
                if instance.state == (InstanceState::Stopped { exit_code: None }) =>
            {
                Event::Made { asked, instance }
            }
            look => look,
        });
    }

    /// A listing: by name, whatever the id is.
    pub(super) fn list(&mut self) {
        let id = self
            .container
            .as_ref()
            .map(|container| container.id.clone());
        match (id, self.machine.id.clone()) {
            (Some(id), _) => self.look(&id),
            (None, Some(known)) => self.look(&known),
            (None, None) => {}
        }
    }

    pub(super) fn tell(&mut self, kind: Kind) {
        self.engine_time += 1;
        if let Some(container) = &self.container {
            let event = Event::Engine {
                id: container.id.clone(),
                at: EngineTime(self.engine_time),
                kind,
            };
            self.events.push_back(event);
        }
    }

    /// What the engine does to its container, with the events that tell of it.
    pub(super) fn engine(&mut self, kind: Kind) {
        let Some(container) = &mut self.container else {
            return;
        };
        let running = matches!(container.state, InstanceState::Running { .. });
        let paused = matches!(container.state, InstanceState::Paused { .. });
        match kind {
            Kind::Started if !running && !paused => {
                self.engine_time += 1;
                container.state = InstanceState::Running {
                    started_at: EngineTime(self.engine_time),
                };
                // The event's time is not before the start's own.
                self.tell(Kind::Started);
            }
            Kind::Died { exit_code } if running || paused => {
                container.state = InstanceState::Stopped { exit_code };
                self.tell(kind);
            }
            Kind::Paused => {
                if let InstanceState::Running { started_at } = container.state {
                    container.state = InstanceState::Paused { started_at };
                    self.tell(kind);
                }
            }
            Kind::Unpaused => {
                if let InstanceState::Paused { started_at } = container.state {
                    container.state = InstanceState::Running { started_at };
                    self.tell(kind);
                }
            }
            Kind::Destroyed => {
                if running || paused {
                    container.state = InstanceState::Stopped {
                        exit_code: Some(137),
                    };
                    self.tell(Kind::Died {
                        exit_code: Some(137),
                    });
                }
                self.tell(Kind::Destroyed);
                self.container = None;
            }
            Kind::Ending if running => self.tell(kind),
            _ => {}
        }
    }

    pub(super) fn create(&mut self) -> Option<InstanceId> {
        if self.container.is_some() {
            return None;
        }
        self.made += 1;
        let id = InstanceId::new(&format!("c{}", self.made));
        let state = InstanceState::Stopped { exit_code: None };
        self.container = Some(Container {
            id: id.clone(),
            state,
        });
        self.tell(Kind::Changed);
        Some(id)
    }

    /// Carries an order out, or fails at it, and answers.
    pub(super) fn carry_out(&mut self, order: Effect, may_fail: bool) {
        let adopts = matches!(order, Effect::Launch(_, _, How::Adopt));
        let fails = may_fail && self.random.u8(..10) == 0 && !(self.alone && adopts);
        // What runs and cannot be looked at is left as it is, until the next listing.
        self.needs_listing |= fails && adopts;
        let failed = || Failure::new(FailureKind::Other, "the engine failed");
        let exists = |world: &Self, id: &InstanceId| {
            if world
                .container
                .as_ref()
                .is_some_and(|container| container.id == *id)
            {
                Ok(())
            } else {
                Err(Failure::new(FailureKind::NotFound, "no such container"))
            }
        };
        let event = match order {
            Effect::Create(generation, _) if fails => Event::Created(generation, Err(failed())),
            Effect::Create(generation, _) => {
                let taken = || Failure::new(FailureKind::NameTaken("a".into()), "taken");
                Event::Created(generation, self.create().ok_or_else(taken))
            }
            Effect::Launch(generation, id, how) => {
                let done = exists(self, &id);
                if done.is_ok() && !(fails && self.random.bool()) {
                    match how {
                        How::Start => self.engine(Kind::Started),
                        How::Unpause => self.engine(Kind::Unpaused),
                        How::Adopt => {}
                    }
                }
                let launched =
                    done.and_then(|()| if fails { Err(failed()) } else { self.launch() });
                Event::Launched(generation, launched)
            }
            Effect::Prove(generation, _, _, deadline) => {
                let running = matches!(
                    self.container,
                    Some(Container {
                        state: InstanceState::Running { .. },
                        ..
                    })
                );
                if fails || !running || deadline <= self.now {
                    return;
                }
                Event::Proved(generation)
            }
            Effect::Stop(generation, id, _) => {
                let done = exists(self, &id);
                if done.is_ok() && !fails {
                    self.engine(Kind::Ending);
                    self.engine(Kind::Died { exit_code: Some(0) });
                }
                Event::StopDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::Pause(generation, id) => {
                let done = exists(self, &id);
                let running = matches!(
                    self.container,
                    Some(Container {
                        state: InstanceState::Running { .. } | InstanceState::Paused { .. },
                        ..
                    })
                );
                if done.is_ok() && !fails {
                    self.engine(Kind::Paused);
                }
                let fails = fails || !running;
                Event::PauseDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::Remove(generation, id) => {
                let done = exists(self, &id);
                if done.is_ok() && !fails {
                    self.engine(Kind::Destroyed);
                }
                Event::RemoveDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::AskUse(generation, id, _, _) => {
                let told = match exists(self, &id) {
                    Ok(()) if !fails => Use::Count(self.uses),
                    _ => Use::Unknown("nobody answers".into()),
                };
                Event::Use(generation, told)
            }
            Effect::Look(_) | Effect::Refuse(_) => return,
        };
        self.step(event);
    }

    pub(super) fn launch(&mut self) -> Result<Launch, Failure> {
        if let Some(Container {
            state: InstanceState::Paused { .. },
            ..
        }) = self.container
        {
            return Err(Failure::new(FailureKind::IsPaused, "it is paused"));
        }
        let Some(Container {
            state: InstanceState::Running { started_at },
            ..
        }) = self.container
        else {
            return Err(Failure::new(
                FailureKind::NotRunning { clean: true },
                "it has ended",
            ));
        };
        let idle = match self.random.u8(..6) {
            0 => IdleRule::Never,
            1 => IdleRule::PauseAfter(20 * SECOND),
            2 | 3 => IdleRule::UnlessBusy {
                sleep: if self.random.bool() {
                    Sleep::Stopped
                } else {
                    Sleep::Paused
                },
                after: 20 * SECOND,
                sign: BusySign::SentBytes,
            },
            _ => IdleRule::StopAfter(20 * SECOND),
        };
        let ready = match self.random.u8(..3) {
            0 => ReadyRule::Wait(SECOND),
            _ => ReadyRule::Tcp { max: 5 * SECOND },
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(Launch {
            run: Run {
                started_at,
                address,
            },
            port: Some(80),
            ready,
            idle,
            health: None,
            routed_past: self.random.bool(),
        })
    }

    /// An order arrives at the engine. Those that start, stop or pause do so one after another, as
    /// the drivers see to; a start that was overtaken before its turn came is not made.
    pub(super) fn order_at(&mut self, index: usize, may_fail: bool) {
        let waits = |order: &Effect| match order {
            Effect::Launch(_, _, how) => *how != How::Adopt,
            Effect::Stop(..) | Effect::Pause(..) => true,
            _ => false,
        };
        let index = if waits(&self.orders[index]) {
            self.orders.iter().position(waits).unwrap_or(index)
        } else {
            index
        };
        let order = self.orders.remove(index);
        let overtaken = matches!(
            &order,
            Effect::Launch(generation, _, How::Start | How::Unpause)
                if *generation != self.machine.generation
        );
        if !overtaken {
            self.carry_out(order, may_fail);
        }
    }
}

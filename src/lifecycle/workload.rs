//! One workload: its machine behind a lock, those who wait for it, and what carries its effects out.

mod carry;
#[cfg(test)]
mod tests;
mod timer;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Moment;
use crate::lifecycle::core::{Core, StartLabels};
use crate::lifecycle::fleet::Refusal;
use crate::lifecycle::gate::{Gate, Lease};
use crate::lifecycle::machine::{
    Effect, Event, FailureKind, Machine, Observation, Phase, Then, Why,
};
use crate::lifecycle::places::{Place, Places};
use crate::names::WorkloadName;
use crate::runtime::{Instance, InstanceId};

pub(super) struct Workload {
    name: WorkloadName,
    core: Arc<Core>,
    /// The way in while there is one: what a request needs when all is well.
    slot: ArcSwapOption<Gate>,
    inner: Mutex<Inner>,
    /// Requests held for this workload.
    held: Places,
    /// The timer has to be set anew, or the last lease of a closed gate ended.
    poke: Arc<Notify>,
    /// Held during a call that starts, stops or pauses the container. A stop that is ordered while
    /// a start is on its way to the engine must not arrive before it.
    call: tokio::sync::Mutex<()>,
    /// Told after each step.
    changed: watch::Sender<()>,
}

struct Inner {
    machine: Machine,
    waiters: VecDeque<Waiter>,
    about: About,
    /// When the present start was decided.
    start_began: Moment,
    /// It is no longer among the fleet's workloads; whoever still holds it looks it up again.
    retired: bool,
}

/// What does not change while a container exists.
#[derive(Debug, Clone, Default)]
struct About {
    image: String,
    labels: BTreeMap<String, String>,
}

/// A held request. When it gives up, the lease that it is sent releases itself.
struct Waiter {
    answer: oneshot::Sender<Result<Lease, Refusal>>,
    counts: bool,
}

/// The workload was taken out of the fleet meanwhile.
#[derive(Debug)]
pub(super) struct Retired;

impl Workload {
    pub fn new(name: WorkloadName, core: Arc<Core>) -> Arc<Self> {
        let poke = Arc::new(Notify::new());
        let seed = fastrand::u64(..);
        let machine = Machine::new(
            name.clone(),
            core.machine_limits(),
            core.clock,
            poke.clone(),
            seed,
        );
        let workload = Arc::new(Self {
            slot: ArcSwapOption::empty(),
            inner: Mutex::new(Inner {
                machine,
                waiters: VecDeque::new(),
                about: About::default(),
                start_began: core.clock.now(),
                retired: false,
            }),
            held: Places::new(core.hold.queue_max),
            poke,
            call: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            name,
            core,
        });
        let timer = Self::keep_time(Arc::downgrade(&workload));
        workload.core.handle.spawn(timer);
        workload
    }

    pub fn name(&self) -> &WorkloadName {
        &self.name
    }

    /// The container that it is, where there is one.
    pub fn id(&self) -> Option<InstanceId> {
        self.inner.lock().machine.id().cloned()
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.inner.lock().about.labels.clone()
    }

    /// A lease when it is ready this moment.
    pub fn ready_lease(&self, counts: bool) -> Option<Lease> {
        self.slot.load().as_ref()?.lease(counts)
    }

    /// A lease as soon as it is ready; wakes it when it sleeps.
    ///
    /// `wish` is what the machine is told: that it is wanted, or that it is to be made. It is not
    /// told when `superseded` is cancelled: whoever cancels it and orders rest then can rely on
    /// that nothing starts the workload again.
    pub async fn lease(
        self: &Arc<Self>,
        counts: bool,
        wait: Duration,
        wish: Event,
        superseded: Option<&CancellationToken>,
    ) -> Result<Result<Lease, Refusal>, Retired> {
        let limits = &self.core.hold;
        let place = Place::take([&self.held, &self.core.held]);
        let Some(_place) = place else {
            return Ok(Err(Refusal::QueueFull {
                workload: self.name.clone(),
                retry_after: Duration::from_secs(1),
            }));
        };
        let (answer, answered) = oneshot::channel();
        self.change(|inner| {
            if inner.retired {
                return Err(Retired);
            }
            if inner.waiters.len() >= limits.queue_max {
                inner.forget_gone_waiters();
            }
            Ok(inner.enqueue(&self.name, Waiter { answer, counts }, wish, superseded))
        })?;
        let refusal = match tokio::time::timeout(wait, answered).await {
            Ok(Ok(answer)) => return Ok(answer),
            // The sender is dropped only with the workload itself.
            Ok(Err(_)) => Refusal::Unknown(self.name.clone()),
            Err(_) => Refusal::TimedOut {
                workload: self.name.clone(),
                waited: wait,
            },
        };
        Ok(Err(refusal))
    }

    /// Wants it awake without waiting; tells when that cannot be now. For `wish` and `superseded`
    /// see [`Workload::lease`].
    pub fn nudge(
        self: &Arc<Self>,
        wish: Event,
        superseded: Option<&CancellationToken>,
    ) -> Result<Result<(), Refusal>, Retired> {
        let (answer, mut answered) = oneshot::channel();
        self.change(|inner| {
            if inner.retired {
                return Err(Retired);
            }
            let waiter = Waiter {
                answer,
                counts: false,
            };
            Ok(inner.enqueue(&self.name, waiter, wish, superseded))
        })?;
        let told = match answered.try_recv() {
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(_)) | Err(_) => Ok(()),
        };
        // Nobody waits: a page that asks again and again must not fill the queue.
        drop(answered);
        self.inner.lock().forget_gone_waiters();
        Ok(told)
    }

    /// Gives the machine an event, unless the workload is retired.
    pub fn order(self: &Arc<Self>, event: Event) -> Result<(), Retired> {
        self.change(|inner| {
            if inner.retired {
                Err(Retired)
            } else {
                Ok(event)
            }
        })
    }

    /// The same for an order that only an absent workload takes. False: it is not absent.
    pub fn order_if_absent(self: &Arc<Self>, event: Event) -> Result<bool, Retired> {
        let mut absent = false;
        self.change(|inner| {
            if inner.retired {
                return Err(Retired);
            }
            absent = inner.machine.is_absent();
            // A tick changes nothing that time would not change.
            Ok(if absent { event } else { Event::Tick })
        })?;
        Ok(absent)
    }

    /// Tells it to sleep. False: there is nothing that could.
    pub fn rest(self: &Arc<Self>, drain: Duration) -> bool {
        let mut exists = false;
        let told = self.change(|inner| {
            exists = !matches!(inner.machine.phase(), Phase::Absent);
            if inner.retired {
                Err(Retired)
            } else {
                Ok(Event::RestOrdered { drain })
            }
        });
        told.is_ok() && exists
    }

    /// What the engine said of the container when it was asked at `asked`. `made_now`: somebody has just
    /// made it.
    pub fn observe(
        self: &Arc<Self>,
        asked: Moment,
        instance: &Instance,
        made_now: bool,
    ) -> Result<(), Retired> {
        self.change(|inner| {
            if inner.retired {
                return Err(Retired);
            }
            inner.learn(instance);
            let instance = Observation::from(instance);
            Ok(if made_now {
                Event::Made { asked, instance }
            } else {
                Event::Observed { asked, instance }
            })
        })
    }

    /// Waits until `found` says something of the machine, told after every step.
    pub async fn until<T>(&self, mut found: impl FnMut(&Machine) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(found) = found(&self.inner.lock().machine) {
                return found;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes it out of service when there is no container and nobody waits for one.
    pub fn retire_if_absent(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.forget_gone_waiters();
        let unused = matches!(inner.machine.phase(), Phase::Absent) && inner.waiters.is_empty();
        inner.retired |= unused;
        if inner.retired {
            self.poke.notify_one();
        }
        inner.retired
    }

    /// Decides under the lock, acts after it.
    fn change(
        self: &Arc<Self>,
        decide: impl FnOnce(&mut Inner) -> Result<Event, Retired>,
    ) -> Result<(), Retired> {
        let effects = {
            let mut inner = self.inner.lock();
            let event = decide(&mut inner)?;
            self.advance(&mut inner, event)
        };
        self.poke.notify_one();
        self.changed.send_replace(());
        for effect in effects {
            let workload = self.clone();
            self.core
                .handle
                .spawn(async move { workload.carry_out(effect).await });
        }
        Ok(())
    }

    fn advance(&self, inner: &mut Inner, event: Event) -> Vec<Effect> {
        let mut to_do = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let now = self.core.clock.now();
            let before = (inner.machine.phase().name(), inner.machine.since());
            for effect in inner.machine.step(now, event) {
                match effect {
                    Effect::Refuse(why) => inner.refuse(&self.name, &why),
                    effect => to_do.push(effect),
                }
            }
            self.tell(inner, before, now);
            self.publish(inner);
            if inner.machine.phase().is_at_rest() {
                inner.forget_gone_waiters();
                // Whoever still waits when it comes to rest wants it awake again.
                if !inner.waiters.is_empty() {
                    next = Some(Event::Wanted { by_operator: false });
                }
            }
        }
        to_do
    }

    /// The slot follows the machine, and those who wait follow the slot.
    fn publish(&self, inner: &mut Inner) {
        match inner.machine.open_gate() {
            None => self.slot.store(None),
            Some(gate) => {
                if !self
                    .slot
                    .load()
                    .as_ref()
                    .is_some_and(|open| Arc::ptr_eq(open, gate))
                {
                    self.slot.store(Some(gate.clone()));
                }
                for waiter in inner.waiters.drain(..) {
                    let Some(lease) = gate.lease(waiter.counts) else {
                        continue;
                    };
                    // A lease that nobody receives any more releases itself.
                    drop(waiter.answer.send(Ok(lease)));
                }
            }
        }
    }

    /// One line a phase change, and what is counted of it.
    fn tell(&self, inner: &mut Inner, (from, since): (&'static str, Moment), now: Moment) {
        let machine = &inner.machine;
        let to = machine.phase().name();
        if from == to {
            return;
        }
        // Launching and proving are one start, and what a request has waited for.
        let took = match from {
            "starting" => now.since(inner.start_began),
            _ => now.since(since),
        };
        let reason = machine.phase().reason();
        let reason = reason.as_deref().unwrap_or_default();
        tracing::info!(
            workload = %self.name, from, to, reason,
            took_ms = took.as_secs_f64() * 1e3,
            "workload is {to}"
        );
        match machine.phase() {
            Phase::Starting { .. } => inner.start_began = now,
            Phase::Ready { .. } if from == "starting" => {
                self.count_start("ready");
                let took = now.since(inner.start_began);
                self.core.metrics.start_seconds.observe(took.as_secs_f64());
            }
            Phase::Failed { .. } if from == "starting" => self.count_start("failed"),
            Phase::Stopping {
                then: Then::Fail { .. },
                ..
            } if from == "starting" => self.count_start("failed"),
            _ => {}
        }
    }

    fn count_start(&self, result: &'static str) {
        let labels = StartLabels {
            workload: self.name.to_string(),
            result,
        };
        self.core.metrics.starts.get_or_create(&labels).inc();
    }
}

impl Inner {
    fn learn(&mut self, instance: &Instance) {
        self.about = About {
            image: instance.image.clone(),
            labels: instance.labels.clone(),
        };
    }

    /// Takes a waiter in, and gives what the machine is to be told then.
    fn enqueue(
        &mut self,
        name: &WorkloadName,
        waiter: Waiter,
        wish: Event,
        superseded: Option<&CancellationToken>,
    ) -> Event {
        if superseded.is_some_and(CancellationToken::is_cancelled) {
            let refusal = Refusal::Superseded(name.clone());
            drop(waiter.answer.send(Err(refusal)));
            // A tick changes nothing that time would not change.
            return Event::Tick;
        }
        self.waiters.push_back(waiter);
        wish
    }

    fn forget_gone_waiters(&mut self) {
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
    }

    fn refuse(&mut self, name: &WorkloadName, why: &Why) {
        for waiter in self.waiters.drain(..) {
            drop(waiter.answer.send(Err(refusal(name, why))));
        }
    }
}

fn refusal(workload: &WorkloadName, why: &Why) -> Refusal {
    let workload = workload.clone();
    match why {
        Why::Gone => Refusal::Unknown(workload),
        Why::Superseded => Refusal::Superseded(workload),
        Why::Failed {
            failure,
            retry_after,
        } if failure.kind == FailureKind::EngineUnreachable => Refusal::EngineUnreachable {
            workload,
            reason: failure.message.clone(),
            retry_after: *retry_after,
        },
        Why::Failed {
            failure,
            retry_after,
        } => Refusal::Failed {
            workload,
            reason: failure.message.clone(),
            retry_after: *retry_after,
        },
    }
}

//! What the running call of a script has used up: operations, CPU time of its thread, and time.
//!
//! Rhai's own `max_operations` counts on a copied counter when a native function calls back into
//! the script, and its errors can be swallowed by `try … catch` on their way out of one. So the
//! count is kept here, one a thread, and a call that is once over its limit stays over it.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Operations between two looks at the clock: a look is a system call.
const OPERATIONS_PER_LOOK: u64 = 256;

/// Operations between two looks at the time that passes: those cost next to nothing, and one
/// operation may be a pause of 50 ms, for which Rhai waits for a variable that is held.
const OPERATIONS_PER_GLANCE: u64 = 16;

/// The time that a call may take, in multiples of its CPU time: a machine may be that busy.
const TIME_PER_CPU_TIME: u32 = 20;

/// The same for a call that has next to no CPU time.
const TIME_MIN: Duration = Duration::from_secs(1);

/// The stack that a thread needs which asks scripts: values can be nested as deep as the operations
/// allow (a closure that holds a closure that holds …), and are dropped one inside the other. What
/// is never used takes no memory.
pub const STACK_BYTES: usize = 128 << 20;

thread_local! {
    static METER: Cell<Meter> = const { Cell::new(Meter::IDLE) };
}

#[derive(Clone, Copy)]
struct Meter {
    operations: u64,
    operations_max: u64,
    cpu_time_max: Duration,
    /// The thread's CPU time at the first look. Taken late, so that a short call costs no system call.
    begun: Option<Duration>,
    /// When that was first glanced at, on a clock of its own.
    begun_at: Option<Duration>,
    over: Option<Over>,
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Operations(u64),
    CpuTime(Duration),
    Time(Duration),
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Over::Operations(max) => write!(
                f,
                "the script used up the {max} operations that one call may take (is there an endless loop?)"
            ),
            Over::CpuTime(max) => write!(
                f,
                "the script used up the {} ms of CPU time that one call may take (is there an endless loop?)",
                max.as_secs_f64() * 1e3
            ),
            Over::Time(max) => write!(
                f,
                "the script waited longer than the {} ms that one call may take in all (does a closure use \
                 a variable that is held while it runs?)",
                max.as_secs_f64() * 1e3
            ),
        }
    }
}

impl Meter {
    const IDLE: Meter = Meter {
        operations: 0,
        operations_max: u64::MAX,
        cpu_time_max: Duration::MAX,
        begun: None,
        begun_at: None,
        over: None,
    };

    fn tick(&mut self) -> Option<Over> {
        if self.over.is_some() {
            return self.over;
        }
        self.operations += 1;
        if self.operations > self.operations_max {
            self.over = Some(Over::Operations(self.operations_max));
        } else if self.operations.is_multiple_of(OPERATIONS_PER_LOOK) {
            self.look();
        } else if self.operations.is_multiple_of(OPERATIONS_PER_GLANCE) {
            self.glance();
        }
        self.over
    }

    fn look(&mut self) {
        let now = clock(ClockId::ThreadCPUTime);
        let begun = *self.begun.get_or_insert(now);
        if now.saturating_sub(begun) > self.cpu_time_max {
            self.over = self.over.or(Some(Over::CpuTime(self.cpu_time_max)));
        }
    }

    fn glance(&mut self) {
        let now = clock(ClockId::MonotonicCoarse);
        let begun = *self.begun_at.get_or_insert(now);
        let time_max = self.cpu_time_max.saturating_mul(TIME_PER_CPU_TIME);
        let time_max = time_max.saturating_add(TIME_MIN);
        if now.saturating_sub(begun) > time_max {
            self.over = Some(Over::Time(time_max));
        }
    }
}

/// Counts one operation of the running call. `Some` when it is over a limit, now or before.
pub fn tick() -> Option<Over> {
    let mut meter = METER.get();
    let over = meter.tick();
    METER.set(meter);
    over
}

/// Looks at the clock before and after a piece of native work that takes much longer than an
/// operation. `Err` when the running call is over a limit, now or before.
pub fn weighed<T>(work: impl FnOnce() -> T) -> Result<T, Over> {
    let look = || {
        let mut meter = METER.get();
        meter.look();
        METER.set(meter);
        meter.over.map_or(Ok(()), Err)
    };
    look()?;
    let done = work();
    look()?;
    Ok(done)
}

/// Runs `call` under its limits. `Err` when it went over one, whatever it returned.
pub fn metered<T>(
    operations_max: u64,
    cpu_time_max: Duration,
    call: impl FnOnce() -> T,
) -> (T, Option<Over>) {
    /// Puts the outer call's meter back, also when this one panics.
    struct Restore(Meter);
    impl Drop for Restore {
        fn drop(&mut self) {
            METER.set(self.0);
        }
    }
    let _restore = Restore(METER.replace(Meter {
        operations_max,
        cpu_time_max,
        ..Meter::IDLE
    }));
    let result = call();
    (result, METER.get().over)
}

fn clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_over_its_operations_stays_over() {
        let (ticks, over) = metered(10, Duration::MAX, || {
            (0..20).filter(|_| tick().is_none()).count()
        });
        assert_eq!(ticks, 10);
        assert_eq!(over, Some(Over::Operations(10)));
        assert_eq!(tick(), None, "the limit ends with its call");
    }

    #[test]
    fn cpu_time_is_limited_and_waiting_is_not() {
        // Where the machine is shared, time in which another one had this processor may count as well.
        let (_, over) = metered(u64::MAX, Duration::from_millis(200), || {
            // Time that passes while others run is nobody's CPU time: only the ticks below cost any.
            std::thread::spawn(|| {
                let busy = std::time::Instant::now();
                while busy.elapsed() < Duration::from_millis(400) {}
            })
            .join()
            .unwrap();
            for _ in 0..(2 * OPERATIONS_PER_LOOK) {
                tick();
            }
        });
        assert_eq!(over, None);
        let (_, over) = metered(u64::MAX, Duration::from_millis(5), || {
            while tick().is_none() {}
        });
        assert_eq!(over, Some(Over::CpuTime(Duration::from_millis(5))));
    }

    #[test]
    fn heavy_work_is_noticed_without_any_operation() {
        let busy = || {
            let begun = clock(ClockId::ThreadCPUTime);
            while clock(ClockId::ThreadCPUTime) - begun < Duration::from_millis(6) {}
        };
        let (result, over) = metered(u64::MAX, Duration::from_millis(5), || {
            weighed(busy).is_ok() || weighed(|| ()).is_ok()
        });
        assert_eq!(
            (result, over),
            (false, Some(Over::CpuTime(Duration::from_millis(5))))
        );
        assert_eq!(
            metered(1, Duration::from_secs(9), || weighed(|| 1)).0,
            Ok(1)
        );
    }

    #[test]
    fn a_panic_leaves_no_limit_behind() {
        let panicked = std::panic::catch_unwind(|| {
            metered(1, Duration::ZERO, || panic!("on purpose"));
        });
        assert!(panicked.is_err());
        assert!((0..10).all(|_| tick().is_none()));
    }
}

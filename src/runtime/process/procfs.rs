//! What /proc tells of processes: whether one is still the same, and which ones are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// The environment variable by which a workload's processes are known, also after a crash of the
/// gateway between starting one and writing down that it did. Its value is the workload's id.
pub(super) const MARK: &str = "WAKEGATE_WORKLOAD";

/// The flag of a kernel thread (proc(5), /proc/pid/stat, field 9; linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// A process that cannot be mistaken for another one that later has the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: i32,
    /// When it started, in clock ticks since the boot (proc(5), /proc/pid/stat, field 22).
    pub start_ticks: u64,
    /// Which boot (/proc/sys/kernel/random/boot_id).
    pub boot: String,
}

/// A process at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub pid: i32,
    /// `R`, `S`, `T` (stopped by a signal), `Z` (ended and not yet reaped), …
    pub state: char,
    pub group: i32,
    pub start_ticks: u64,
    /// A thread of the kernel's own, which runs no program.
    pub is_of_kernel: bool,
}

impl ProcessId {
    /// The process with this number, as it is now. `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let start_ticks = stat(pid)?.start_ticks;
        let boot = boot_id();
        Some(Self {
            pid,
            start_ticks,
            boot,
        })
    }

    /// The same process, when it exists: maybe ended, but not yet reaped.
    pub fn find(&self) -> Option<Stat> {
        let found = stat(self.pid)?;
        (found.start_ticks == self.start_ticks && boot_id() == self.boot).then_some(found)
    }

    /// `None` for a number that no process can have, which a damaged file may hold.
    pub fn as_pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

/// Which boot of the machine this is; the same text until the next one.
pub(super) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &text)
}

fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses and may itself hold any of them.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let flags: u32 = fields.get(6)?.parse().ok()?;
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        is_of_kernel: flags & PF_KTHREAD != 0,
    })
}

/// All living processes that carry a mark, by the workload's id, oldest first. Those of other
/// users are not seen, and neither is one that has overwritten its environment. Takes some
/// milliseconds when a process has none at all.
pub(super) fn marked() -> BTreeMap<String, Vec<Stat>> {
    // A process that executes another program shows no environment for some microseconds.
    const LOOKS_MAX: usize = 4;
    const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(2);
    let mut found: BTreeMap<String, Vec<Stat>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for look in 0..LOOKS_MAX {
        if look > 0 {
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        let mut blank = Vec::new();
        for pid in pids {
            match (environment(pid), stat(pid)) {
                (_, Some(stat)) if stat.state == 'Z' || stat.is_of_kernel => {}
                (Some(environ), Some(_)) if environ.is_empty() => blank.push(pid),
                (Some(environ), Some(stat)) => {
                    if let Some(id) = mark_in(&environ) {
                        found.entry(id).or_default().push(stat);
                    }
                }
                _ => {}
            }
        }
        pids = blank;
        if pids.is_empty() {
            break;
        }
    }
    for processes in found.values_mut() {
        processes.sort_by_key(|stat| (stat.start_ticks, stat.pid));
    }
    found
}

/// The mark of a process, when it has one that can be read.
pub(super) fn mark_of(pid: i32) -> Option<String> {
    mark_in(&environment(pid)?)
}

fn environment(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ")).ok()
}

fn mark_in(environ: &[u8]) -> Option<String> {
    environ
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .find_map(|entry| entry.strip_prefix(MARK)?.strip_prefix('='))
        .map(str::to_owned)
}

/// The IPv4 addresses that somebody on this machine listens at.
pub(super) fn listening_addresses() -> BTreeSet<Ipv4Addr> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    parse_listening(&table)
}

fn parse_listening(table: &str) -> BTreeSet<Ipv4Addr> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1);
    lines
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = fields.next()?;
            let state = fields.nth(1)?;
            let (address, _port) = local.split_once(':')?;
            // The kernel prints the four bytes as one number in the machine's own byte order.
            let address = u32::from_str_radix(address, 16).ok()?;
            (state == LISTEN).then(|| Ipv4Addr::from(address.to_ne_bytes()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_parentheses_in_its_name_is_read_right() {
        let text = "17 (a ) R (b) S 1 15 14 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0 182147 31 3";
        let expected = Stat {
            pid: 17,
            state: 'S',
            group: 15,
            start_ticks: 182_147,
            is_of_kernel: false,
        };
        assert_eq!(parse_stat(17, text), Some(expected));
        assert_eq!(parse_stat(17, "17 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_found_and_one_with_its_number_from_another_boot_is_not() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert_eq!(me.find().unwrap().pid, me.pid);
        let before_the_boot = ProcessId {
            boot: "another".to_owned(),
            ..me.clone()
        };
        assert_eq!(before_the_boot.find(), None);
        let earlier = ProcessId {
            start_ticks: me.start_ticks - 1,
            ..me
        };
        assert_eq!(earlier.find(), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_listeners_take_an_address() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
             0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000\n   \
             1: 0302407F:2328 0100007F:8CA0 01 00000000:00000000 00:00000000\n";
        let expected = BTreeSet::from([Ipv4Addr::LOCALHOST]);
        assert_eq!(parse_listening(table), expected);
    }

    #[test]
    fn a_real_listener_is_seen() {
        let address = Ipv4Addr::new(127, 3, fastrand::u8(..), fastrand::u8(1..255));
        let _listener = std::net::TcpListener::bind((address, 0)).unwrap();
        assert!(listening_addresses().contains(&address));
    }
}

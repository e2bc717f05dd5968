//! Scripts that are changed while they serve: watched, built aside, and exchanged when they are good.

mod content;
mod mounts;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use self::content::{Digest, Listing};
use crate::config::{Scripts as Settings, Shadow};
use crate::script::guard::{Guard, Verdict};
use crate::script::history::History;
use crate::script::trial;

/// How long the directory has to be quiet before it is looked at: a save is several events.
const QUIET: Duration = Duration::from_millis(100);

/// How long it may be unquiet before it is looked at all the same.
const UNQUIET_MAX: Duration = Duration::from_millis(150);

/// Between two looks that no event asked for: not every file system tells of changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Of those looks, each so many-th reads the files although they seem unchanged.
const READ_EVERY: u32 = 5;

/// Between two looks at how a new version does, where that is looked at.
const GUARD_EVERY: Duration = Duration::from_millis(200);

/// For the workers to tell what they saw last. It is over as soon as all have; one that has not in
/// time is left out, and then less is compared than was seen.
const RECENT_TIME: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub struct Reloading {
    ended: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Reloading {
    /// Follows the directory on a thread of its own. What changed since the serving version was
    /// loaded is noticed as well.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(history: Arc<History>, settings: Settings) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        let reloading = Self {
            ended: ended.clone(),
            wake: wake.clone(),
        };
        let mut watch = Watch {
            known: history.tell().serving.number,
            guard: None,
            reload: Reload {
                history,
                settings,
                judged: None,
                recent_time: RECENT_TIME,
            },
            eyes: Eyes {
                wake,
                watching: None,
                complained: false,
            },
            ended,
            listing: None,
            looks: 0,
        };
        std::thread::Builder::new()
            .name("scripts".to_owned())
            .spawn(move || watch.run(&woken))?;
        Ok(reloading)
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // When the channel is full the thread is about to look at the flag anyway.
        self.wake.try_send(()).ok();
    }
}

/// The thread that watches.
struct Watch {
    reload: Reload,
    eyes: Eyes,
    ended: Arc<AtomicBool>,
    listing: Option<Listing>,
    looks: u32,
    /// The version that served when it was last looked.
    known: u64,
    guard: Option<Guard>,
}

impl Watch {
    fn run(&mut self, woken: &Receiver<()>) {
        warn_of_single_mounts(&Listing::of(self.reload.dir()));
        let mut told = true;
        let mut looked = Instant::now();
        while !self.ended.load(Ordering::Acquire) {
            if told || looked.elapsed() >= LOOK_EVERY {
                self.look(told);
                looked = Instant::now();
            }
            self.guard();
            let pause = match self.guard {
                Some(_) => GUARD_EVERY,
                None => LOOK_EVERY,
            };
            told = match woken.recv_timeout(pause) {
                Ok(()) => {
                    until_quiet(woken);
                    true
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    /// Goes back from a version that began to serve and fails too often.
    fn guard(&mut self) {
        let Some(failures_max) = self.reload.settings.rollback_failures_max else {
            return;
        };
        let history = &self.reload.history;
        let told = history.tell();
        let (serving, now) = (told.serving.number, Instant::now());
        if serving != self.known {
            self.known = serving;
            // What it had before is of its trial, or of an earlier time.
            let before = told.failures_of(history.scripts());
            // One that was gone back to has had its minute.
            let is_new = serving == told.newest;
            self.guard = is_new.then(|| Guard::new(serving, failures_max, now, before));
        }
        let Some(guard) = &self.guard else {
            return;
        };
        let (asked, failed) = told.failures_of(history.scripts());
        match guard.judge(now, asked, failed) {
            Verdict::Watch => {}
            Verdict::Trusted => self.guard = None,
            Verdict::GoBack(reason) => {
                history.roll_back_from(guard.version(), &reason);
                self.guard = None;
            }
        }
    }

    /// Looks at the directory. `told`: something is known to have happened to it.
    fn look(&mut self, told: bool) {
        // Watched before it is looked at, so that nothing falls between.
        self.eyes.follow(self.reload.dir());
        let listing = Listing::of(self.reload.dir());
        self.looks = self.looks.wrapping_add(1);
        let seems_changed = self.listing.as_ref() != Some(&listing);
        if told || seems_changed || self.looks.is_multiple_of(READ_EVERY) {
            match self.reload.judge(&listing) {
                Judged::Settled => self.listing = Some(listing),
                // It is being written to: the next look is soon, whether or not it is told of.
                Judged::Moved => {
                    self.listing = None;
                    self.eyes.wake.try_send(()).ok();
                }
            }
        }
    }
}

/// Waits until no event has come for a while.
fn until_quiet(woken: &Receiver<()>) {
    let began = Instant::now();
    while began.elapsed() < UNQUIET_MAX && woken.recv_timeout(QUIET).is_ok() {}
}

fn warn_of_single_mounts(listing: &Listing) {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for file in mounts::mounted_singly(listing.files(), &mountinfo) {
        tracing::warn!(
            "{} is mounted as a single file: editors that save by renaming change another one. \
             Mount the scripts directory as a whole",
            file.display()
        );
    }
}

/// The events of the directory and of its own name.
struct Eyes {
    wake: SyncSender<()>,
    watching: Option<Watching>,
    complained: bool,
}

struct Watching {
    /// Device and inode: another directory may stand there under the same name.
    directory: (u64, u64),
    /// The directory was moved or removed, and what is there now has no eyes on it, even if it got
    /// the same inode.
    stale: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

impl Eyes {
    /// Watches the directory that is there now, if that is another one than before.
    fn follow(&mut self, dir: &Path) {
        let directory = std::fs::metadata(dir).ok();
        let directory = directory.map(|metadata| (metadata.dev(), metadata.ino()));
        let fresh = self
            .watching
            .as_ref()
            .filter(|watching| !watching.stale.load(Ordering::Acquire));
        if fresh.map(|watching| watching.directory) == directory {
            return;
        }
        self.watching = None;
        let Some(directory) = directory else {
            return;
        };
        match self.watch(dir, directory) {
            Ok(watching) => self.watching = Some(watching),
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    "{} cannot be watched ({error}); it is looked at every {} s instead",
                    dir.display(),
                    LOOK_EVERY.as_secs()
                );
            }
            Err(_) => {}
        }
    }

    fn watch(&self, dir: &Path, directory: (u64, u64)) -> notify::Result<Watching> {
        let wake = self.wake.clone();
        let dir = std::path::absolute(dir).map_err(notify::Error::io)?;
        let stale = Arc::new(AtomicBool::new(false));
        let (own, gone) = (dir.clone(), stale.clone());
        let mut watcher = notify::recommended_watcher(move |event| {
            let seen = seen(&event, &own);
            if seen == Seen::Replaced {
                gone.store(true, Ordering::Release);
            }
            if seen != Seen::Nothing {
                // A full channel has said it already.
                wake.try_send(()).ok();
            }
        })?;
        watcher.watch(&dir, RecursiveMode::Recursive)?;
        // A link or a folder that takes its place is an event of the folder around it. Where that
        // cannot be watched, the looks in between find it.
        if let Some(around) = dir.parent() {
            drop(watcher.watch(around, RecursiveMode::NonRecursive));
        }
        Ok(Watching {
            directory,
            stale,
            _watcher: watcher,
        })
    }
}

/// What an event may mean for the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// What it holds may have changed.
    Changed,
    /// It may be another directory now.
    Replaced,
}

fn seen(event: &notify::Result<notify::Event>, dir: &Path) -> Seen {
    let Ok(event) = event else {
        return Seen::Changed;
    };
    if event.need_rescan() {
        return Seen::Changed;
    }
    let below = event.paths.iter().filter(|path| path.starts_with(dir));
    if below.filter(|path| may_be_of_scripts(path)).count() == 0 {
        return Seen::Nothing;
    }
    let is_itself = event.paths.iter().any(|path| path == dir);
    match event.kind {
        // Our own reading is an event too.
        EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => Seen::Nothing,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            if is_itself =>
        {
            Seen::Replaced
        }
        _ => Seen::Changed,
    }
}

/// Whether a change of it may change the scripts: they end in `.rhai`, and a folder or a link on their
/// way has no ending as a rule, or a hidden name. What has another one may be written to without end.
fn may_be_of_scripts(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    match path.extension() {
        Some(end) if end != "rhai" && !is_hidden => path.is_dir() || path.is_symlink(),
        _ => true,
    }
}

/// How a look at the directory went.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Settled,
    /// It changed while it was read.
    Moved,
}

/// Builds what is new and lets it serve when it is good.
struct Reload {
    history: Arc<History>,
    settings: Settings,
    /// The content that was built last, good or not: it would be no better the next time.
    judged: Option<Digest>,
    recent_time: Duration,
}

impl Reload {
    fn dir(&self) -> &Path {
        &self.settings.dir
    }

    fn judge(&mut self, listing: &Listing) -> Judged {
        let digest = listing.digest();
        if self.judged == Some(digest) {
            return Judged::Settled;
        }
        let number = self.history.next_number();
        let built = trial::load(self.dir(), &self.settings.given, number);
        // Of what was written meanwhile one half may have been read before and one after it.
        if Listing::of(self.dir()).digest() != digest {
            return Judged::Moved;
        }
        self.judged = Some(digest);
        let mode = self.settings.shadow;
        let tried = built.and_then(|version| {
            let scripts = self.history.scripts();
            let heads = match mode {
                Shadow::Off => Vec::new(),
                Shadow::Report | Shadow::Hold => scripts.recent(self.recent_time),
            };
            let trial = trial::compare(&scripts.current.load(), &version, &heads, mode)?;
            Ok((version, trial))
        });
        match tried {
            Ok((version, trial)) => {
                let changes = trial.shadow.as_ref().map_or(0, |report| report.changed);
                let hold = mode == Shadow::Hold && changes > 0;
                self.history.take(version, trial, hold);
            }
            Err(errors) => self.history.refuse(errors),
        }
        Judged::Settled
    }
}

#[cfg(test)]
mod tests;

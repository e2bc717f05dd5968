//! Finds the container that this process itself runs in, if any.

use std::fs;

/// Identifiers that may be this process's own container's, likeliest first.
pub(super) fn candidates() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut ids = in_mountinfo(&read("/proc/self/mountinfo"));
    ids.extend(in_cgroup(&read("/proc/self/cgroup")));
    let hostname = read("/proc/sys/kernel/hostname");
    // The engine's default host name is the id's beginning; any other name could be the name of
    // some container that this process does not run in.
    if is_id(hostname.trim(), 12) || is_id(hostname.trim(), 64) {
        ids.push(hostname.trim().to_owned());
    }
    ids.dedup();
    ids
}

/// The engine mounts three files of a container's own folder into it; other mounts of a host may
/// name other containers.
fn in_mountinfo(text: &str) -> Vec<String> {
    let ids = text.lines().filter_map(|line| {
        // proc(5): mount id, parent id, device, root, mount point, …
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let is_ours = matches!(
            mount_point,
            "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf"
        );
        root.split('/').find(|part| is_ours && is_id(part, 64))
    });
    distinct(ids)
}

/// `…/docker/<id>` and `…/docker-<id>.scope`, in version 1 of cgroups or without a namespace.
fn in_cgroup(text: &str) -> Vec<String> {
    let ids = text.lines().filter_map(|line| {
        let (_, last) = line.rsplit_once('/')?;
        let last = last.trim_end_matches(".scope");
        let id = last.rsplit_once('-').map_or(last, |(_, id)| id);
        is_id(id, 64).then_some(id)
    });
    distinct(ids)
}

fn distinct<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.dedup();
    ids
}

fn is_id(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "869e118c9ef14197c79860602d602ffb1aa653bef4e945de9bd401264bf49cfd";
    const OTHER: &str = "f0f8bf5f53640caa4b637148215d693a4e3bffe6c8430878e2746513d56aafa5";

    #[test]
    fn the_files_that_the_engine_mounts_tell_the_own_container() {
        let text = format!(
            "22 27 0:21 / /proc rw - proc proc rw\n\
             571 540 254:0 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n\
             572 540 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(in_mountinfo(&text), [ID]);
    }

    #[test]
    fn a_hosts_mounts_of_other_containers_are_not_taken_for_the_own_one() {
        let text = format!(
            "90 27 0:50 / /var/lib/docker/overlay2/{OTHER}/merged rw - overlay overlay rw\n\
             91 27 0:51 / /var/lib/docker/containers/{OTHER}/mounts/shm rw - tmpfs shm rw\n\
             92 27 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(in_mountinfo(&text), [""; 0]);
    }

    #[test]
    fn cgroups_tell_the_own_container_where_they_are_visible() {
        assert_eq!(
            in_cgroup(&format!("9:pids:/docker/{ID}\n8:cpu:/docker/{ID}\n")),
            [ID]
        );
        let scope = format!("0::/system.slice/docker-{ID}.scope\n");
        assert_eq!(in_cgroup(&scope), [ID]);
        assert_eq!(
            in_cgroup("0::/\n1:cpu:/user.slice/user-1000.slice\n"),
            [""; 0]
        );
    }
}

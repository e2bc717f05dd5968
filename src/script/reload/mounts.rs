//! Script files that are mounted one by one: what is saved over them is never seen.

use std::path::{Path, PathBuf};

/// Those of the files that are mount points of their own.
///
/// A bind mount of a single file holds on to that file. An editor that saves by renaming a new
/// file over it, outside, leaves the mount with the old one.
pub fn mounted_singly<'a>(files: impl Iterator<Item = &'a Path>, mountinfo: &str) -> Vec<PathBuf> {
    let points: Vec<PathBuf> = mountinfo.lines().filter_map(mount_point).collect();
    files
        .filter(|file| {
            // Below the real folder, but the file's own name: that is where it would be mounted.
            let real = file.parent().and_then(|folder| folder.canonicalize().ok());
            let real = real.and_then(|folder| Some(folder.join(file.file_name()?)));
            real.is_some_and(|real| points.contains(&real))
        })
        .map(Path::to_owned)
        .collect()
}

/// The fifth field, in which blanks stand as octal escapes (proc_pid_mountinfo(5)).
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let plain = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let point = plain
        .iter()
        .fold(field.to_owned(), |field, (escaped, plain)| {
            field.replace(escaped, plain)
        });
    Some(point.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_a_mount_point_is_found_and_one_below_a_mounted_folder_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap().join("my scripts");
        std::fs::create_dir(&dir).unwrap();
        let shown = dir.display().to_string().replace(' ', "\\040");
        let mountinfo = format!(
            "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
             30 22 8:1 /home/scripts {shown} rw - ext4 /dev/sda1 rw\n\
             31 30 8:1 /home/a.rhai {shown}/a.rhai ro,relatime shared:1 - ext4 /dev/sda1 rw\n\
             broken\n"
        );
        let files = [dir.join("a.rhai"), dir.join("b.rhai")];
        let singly = |mountinfo| mounted_singly(files.iter().map(PathBuf::as_path), mountinfo);
        assert_eq!(singly(&mountinfo), files[..1]);
        assert!(singly("").is_empty());
    }
}

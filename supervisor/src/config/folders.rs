//! Where files and sockets can be made, found out without making any: `config check` must leave no trace.

use std::io;
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

/// Whether something can be made in `dir`, or in the folder above it where it would have to be made first.
///
/// # Errors
/// Why not (access(2): EROFS on a read-only file system, EACCES, ENOTDIR).
pub(super) fn writable(dir: &Path) -> io::Result<()> {
    let existing = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok());
    // A relative path's last ancestor is empty, and means here.
    let existing = existing.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.metadata()?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a folder", existing.display()),
        ));
    }
    // As the effective user, who will make it.
    faccessat(nix::fcntl::AT_FDCWD, existing, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS)
        .map_err(|errno| io::Error::other(format!("{}: {}", existing.display(), errno.desc())))
}

/// Whether a Unix socket can have this path: absolute, since others look for it from other folders, and short enough.
///
/// # Errors
/// What was expected.
pub(super) fn socket_path(path: &Path) -> Result<(), &'static str> {
    // sun_path holds 108 bytes, the last of which is 0 (unix(7)).
    let fits = path.is_absolute() && path.as_os_str().len() <= 107 && path.file_name().is_some();
    if fits { Ok(()) } else { Err("an absolute path of at most 107 bytes") }
}

/// Whether the folder of a Unix socket that a child makes is there and can be written to: Consul makes no folders for it.
///
/// # Errors
/// What was expected.
pub(super) fn socket_folder(path: &Path) -> Result<(), String> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !dir.is_dir() {
        return Err(format!("a socket in a folder that exists; {} does not", dir.display()));
    }
    writable(dir).map_err(|error| format!("a socket in a folder that can be written to ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_made_is_as_good_as_one_that_is_there_and_none_is_made() {
        let dir = tempfile::tempdir().expect("folder");
        let deep = dir.path().join("a/b/c");
        assert!(writable(dir.path()).is_ok() && writable(&deep).is_ok());
        assert!(!dir.path().join("a").exists());
        std::fs::write(dir.path().join("file"), "").expect("written");
        let error = writable(&dir.path().join("file/b")).expect_err("below a file");
        assert!(error.to_string().contains("is not a folder"), "{error}");
    }

    #[test]
    fn a_socket_path_is_absolute_and_fits_into_its_107_bytes() {
        let long = |length: usize| std::path::PathBuf::from(format!("/{}", "s".repeat(length - 1)));
        assert_eq!(socket_path(&long(107)), Ok(()));
        for path in [long(108), "run/s".into(), "/".into(), "".into()] {
            assert!(socket_path(&path).is_err(), "{}", path.display());
        }
        let missing = socket_folder(Path::new("/nowhere/consul.sock")).expect_err("no such folder");
        assert!(missing.contains("/nowhere does not"), "{missing}");
    }
}

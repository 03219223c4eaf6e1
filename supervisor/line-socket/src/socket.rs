//! Making a socket, and removing it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Names;
use super::connect::connect_within;

/// To find out whether a socket that is there already is being served. The kernel answers at once; only a hung server with a full queue
/// takes longer.
const IS_SERVED: Duration = Duration::from_millis(200);

/// The bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) names: Names,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket. A file that a dead server left behind is replaced; a live one's is not. A missing folder is made, for the
    /// owner alone.
    ///
    /// The umask is the process's, so no other thread may be making files meanwhile: bind at the start.
    ///
    /// # Errors
    /// The reason and the cure, for people.
    pub fn bind(path: &Path, names: Names) -> Result<Self, String> {
        let Names { socket, program, flag } = names;
        let failed = |what: &str, error: io::Error| {
            let cure = format!("choose another path with {flag}, or mount a writable folder there");
            format!("{socket} {}: {what}: {error}; {cure}", path.display())
        };
        make_folder(path).map_err(|error| failed("the folder cannot be made", error))?;
        if path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket()) {
            let served = match connect_within(path, IS_SERVED) {
                Ok(_) => true,
                // It listens, and its queue is full.
                Err(error) => error.kind() == io::ErrorKind::TimedOut,
            };
            if served {
                return Err(format!(
                    "{socket} {}: another {program} is serving it; give this one its own with {flag}",
                    path.display()
                ));
            }
            std::fs::remove_file(path)
                .map_err(|error| failed("the stale socket cannot be removed", error))?;
        }
        // Between bind and chmod the mode is what the umask leaves, so the umask is tightened for that moment.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(umask);
        let listener = bound.map_err(|error| failed("cannot be bound", error))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| failed("its mode cannot be set", error))?;
        // As the runtime wants it.
        listener.set_nonblocking(true).map_err(|error| failed("cannot be made non-blocking", error))?;
        Ok(Self { listener, names, path: path.to_owned() })
    }
}

/// Makes the socket's folder if it is missing: nobody else has any business in it. Folders above it are made as usual.
fn make_folder(socket: &Path) -> io::Result<()> {
    let Some(dir) = socket.parent().filter(|dir| !dir.exists()) else { return Ok(()) };
    if let Some(above) = dir.parent() {
        std::fs::create_dir_all(above)?;
    }
    DirBuilder::new().mode(0o700).create(dir)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

//! Running a child as another user.

use std::ffi::{CString, OsString};
use std::io;

use nix::unistd::{Gid, Group, Uid, geteuid, getgrouplist};

/// Whom a child runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: libc::uid_t,
    gid: libc::gid_t,
    /// The supplementary groups: those that let it at the GPUs' devices, say.
    groups: Vec<libc::gid_t>,
    /// `HOME`, `USER` and `LOGNAME` as a login would set them (login(1)), where the user has a name.
    pub variables: Vec<(OsString, OsString)>,
}

impl User {
    /// Looks up `USER`, `UID`, `USER:GROUP` or `UID:GID`, as `docker run --user` takes them.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn find(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let known = match user.parse() {
            Ok(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid)),
            Err(_) => nix::unistd::User::from_name(user),
        }
        .map_err(|error| format!("a user that can be looked up ({error})"))?;
        let group = group.map(gid_of).transpose()?;
        let uid = match (&known, user.parse()) {
            (Some(known), _) => known.uid.as_raw(),
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err("a user of this system, or a number".to_owned()),
        };
        let Some(gid) = group.or(known.as_ref().map(|known| known.gid.as_raw())) else {
            return Err("UID:GID, since no user here has that number".to_owned());
        };
        if !geteuid().is_root() && geteuid().as_raw() != uid {
            return Err(format!("to be root, which this process is not (it is user {})", geteuid()));
        }
        let mut groups = vec![gid];
        let mut variables = Vec::new();
        if let Some(known) = known {
            let name = CString::new(known.name.clone()).map_err(|error| error.to_string())?;
            let found = getgrouplist(&name, Gid::from_raw(gid)).map_err(|error| error.to_string())?;
            groups = found.into_iter().map(Gid::as_raw).collect();
            variables = vec![
                ("HOME".into(), known.dir.into_os_string()),
                ("USER".into(), known.name.clone().into()),
                ("LOGNAME".into(), known.name.into()),
            ];
        }
        Ok(Self { uid, gid, groups, variables })
    }

    /// Turns the calling process into this user's. For a child between fork and exec: system calls only.
    ///
    /// # Errors
    /// EPERM: this process may not.
    pub fn become_in_child(&self) -> io::Result<()> {
        // As ourselves: there is nothing to change, and setgroups(2) would be refused.
        let same = {
            // SAFETY: geteuid(2) and getegid(2) take nothing and cannot fail.
            unsafe { (libc::geteuid(), libc::getegid()) == (self.uid, self.gid) }
        };
        if same && self.uid != 0 {
            return Ok(());
        }
        // The groups first: without root they could not be changed any more. By system call, since the C library's functions would
        // tell threads that this child does not have.
        // SAFETY: setgroups(2) reads `len` group ids from a vector that outlives the call; the others take integers.
        let failed = unsafe {
            libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()) != 0
                || libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid) != 0
                || libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn gid_of(group: &str) -> Result<libc::gid_t, String> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let found =
        Group::from_name(group).map_err(|error| format!("a group that can be looked up ({error})"))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| "a group of this system, or a number".to_owned())
}

//! What the process keeps in memory.

/// Gives back the code and constants that were read in so far. What is needed again comes from the page cache, unread by the disk: most of
/// it is the command line, the settings and the start itself, which never are.
pub fn forget_start_up() {
    // SAFETY: the callback takes no data and lives for ever; dl_iterate_phdr(3) calls it for each loaded object before it returns.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

/// Drops the pages of an object that nobody can write to. They are what the file says, so the kernel reads the same again (madvise(2),
/// MADV_DONTNEED on a private file mapping); those that relocations have changed lie in writable segments (elf(5), `PT_GNU_RELRO`).
unsafe extern "C" fn forget(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) hands over a valid object, and `dlpi_phdr` points at `dlpi_phnum` program headers.
    let (base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() || object.dlpi_addr == vdso() {
            return 0;
        }
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for segment in headers.iter().filter(|segment| segment.p_type == libc::PT_LOAD) {
        if segment.p_flags & libc::PF_W != 0 || segment.p_offset % PAGE != segment.p_vaddr % PAGE {
            continue;
        }
        // Whole pages only, and none of a neighbouring segment's.
        let begin = (base + segment.p_vaddr).next_multiple_of(PAGE);
        let end = (base + segment.p_vaddr + segment.p_filesz) / PAGE * PAGE;
        let (Ok(address), Ok(length)) = (usize::try_from(begin), usize::try_from(end.saturating_sub(begin)))
        else {
            continue;
        };
        // SAFETY: these pages are mapped, read-only, and come from a file: dropping them changes nothing that can be read.
        let _only_a_hint =
            unsafe { libc::madvise(address as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    0
}

/// Where the kernel's own object is (vdso(7)), which has no file to come back from.
fn vdso() -> u64 {
    // SAFETY: getauxval(3) takes an integer and cannot fail; 0 is "none".
    unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }
}

/// The least size of a page, and on machines with larger ones the kernel refuses what is not whole.
const PAGE: u64 = 4096;

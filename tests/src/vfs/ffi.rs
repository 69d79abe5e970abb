//! The C side of the VFS: tables of functions that turn pointers into references, and answers into result codes.
//!
//! This is the only unsafe code of the workspace. It rests on what SQLite promises to a VFS
//! (<https://sqlite.org/c3ref/vfs.html>): it calls a file's methods only between a successful `xOpen` and `xClose`, one
//! at a time for each file, with buffers of the length it says; and it passes the `sqlite3_vfs` that was registered.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::ffi;

use super::{
    file::{self, Answer, OpenFile},
    locks::Level,
    shm::SharedMemory,
    state::Shared,
};

/// Longest path that SQLite may pass.
const MAX_PATH_BYTES: c_int = 1024;
/// The Unix epoch as SQLite counts: milliseconds since noon on 24 November 4714 BC.
const UNIX_EPOCH_IN_JULIAN_MS: i64 = 210_866_760_000_000;

/// A VFS that SQLite knows. What it points to is never freed: a connection may outlive the name.
#[derive(Debug)]
pub(super) struct Registration(*mut ffi::sqlite3_vfs);

// SAFETY: the pointer is only ever handed to sqlite3_vfs_unregister, which takes SQLite's own lock.
unsafe impl Send for Registration {}
// SAFETY: as above; a shared reference gives no access at all.
unsafe impl Sync for Registration {}

impl Registration {
    pub(super) fn unregister(&mut self) {
        // SAFETY: the pointer came from `register` and is never freed.
        unsafe { ffi::sqlite3_vfs_unregister(self.0) };
    }
}

/// Makes `shared` known to SQLite as `name`.
pub(super) fn register(name: &str, shared: Arc<Shared>) -> Registration {
    let name = CString::new(name).expect("a VFS name has no NUL");
    let vfs = Box::into_raw(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<File>() as c_int,
        mxPathname: MAX_PATH_BYTES,
        pNext: std::ptr::null_mut(),
        zName: name.into_raw(),
        pAppData: Box::into_raw(Box::new(shared)).cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: `vfs` is a complete sqlite3_vfs that lives for ever.
    let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
    assert_eq!(code, ffi::SQLITE_OK, "SQLite takes another VFS");
    Registration(vfs)
}

/// What SQLite allocates for each open file.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    open: *mut OpenFile,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn code(answer: Answer) -> c_int {
    answer.err().unwrap_or(ffi::SQLITE_OK)
}

/// # Safety
/// `vfs` is one that `register` made.
unsafe fn shared_of<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Arc<Shared> {
    // SAFETY: pAppData is a Box of `register` that is never freed.
    unsafe { &*(*vfs).pAppData.cast::<Arc<Shared>>() }
}

/// # Safety
/// `file` was opened by `open` and not closed since.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: `open` put a Box there, and SQLite makes one call at a time on one file.
    unsafe { &mut *(*file.cast::<File>()).open }
}

/// # Safety
/// `name` is null or ends with a NUL.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a block of szOsFile bytes, and a place for the flags or null.
    unsafe {
        let file = file.cast::<File>();
        (*file).base.pMethods = std::ptr::null();
        match file::open(shared_of(vfs), text(name), flags) {
            Err(code) => code,
            Ok(opened) => {
                (*file).open = Box::into_raw(Box::new(opened));
                (*file).base.pMethods = &METHODS;
                if !out_flags.is_null() {
                    *out_flags = flags;
                }
                ffi::SQLITE_OK
            }
        }
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: SQLite passes our VFS and a path.
    let (shared, name) = unsafe { (shared_of(vfs), text(name)) };
    code(name.ok_or(ffi::SQLITE_IOERR_DELETE).and_then(|name| file::delete(shared, name, sync_directory != 0)))
}

unsafe extern "C" fn access(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes our VFS, a path, and a place for the answer.
    let (shared, name, out) = unsafe { (shared_of(vfs), text(name), &mut *out) };
    let answer = name.ok_or(ffi::SQLITE_IOERR_ACCESS).and_then(|name| file::exists(shared, name, flags));
    code(answer.map(|exists| *out = c_int::from(exists)))
}

/// Paths are taken as they come: whoever opens a file gives its full path.
unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    capacity: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a path, and a buffer of `capacity` bytes for the answer.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > capacity as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// SQLite wants unpredictable names and salts, not secrets: the address and the time will do.
unsafe extern "C" fn randomness(_vfs: *mut ffi::sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    let mut random = crate::random::Random::new(milliseconds_now() as u64 ^ out as u64);
    // SAFETY: SQLite passes a buffer of `length` bytes.
    unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), length as usize) }.fill_with(|| random.bits() as u8);
    length
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(microseconds as u64));
    microseconds
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = milliseconds_now() as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_int64(_vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = milliseconds_now() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _length: c_int, _out: *mut c_char) -> c_int {
    0
}

fn milliseconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH_IN_JULIAN_MS + since.as_millis() as i64
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the last call on this file; the Box is one that `open` made.
    unsafe {
        let file = file.cast::<File>();
        Box::from_raw((*file).open).close();
        (*file).base.pMethods = std::ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, out: *mut c_void, length: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file and a buffer of `length` bytes.
    let (file, into) = unsafe { (opened(file), std::slice::from_raw_parts_mut(out.cast::<u8>(), length as usize)) };
    code(file.read(into, at as usize))
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file and `length` bytes.
    let (file, bytes) = unsafe { (opened(file), std::slice::from_raw_parts(from.cast::<u8>(), length as usize)) };
    code(file.write(bytes, at as usize))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite passes an open file.
    code(unsafe { opened(file) }.truncate(size as usize))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    code(unsafe { opened(file) }.sync())
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    let (file, out) = unsafe { (opened(file), &mut *out) };
    code(file.size().map(|size| *out = size as i64))
}

fn level(level: c_int) -> Level {
    match level {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    code(unsafe { opened(file) }.lock(level(to)))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    code(unsafe { opened(file) }.unlock(level(to)))
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    let (file, out) = unsafe { (opened(file), &mut *out) };
    code(file.is_reserved().map(|reserved| *out = c_int::from(reserved)))
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    if operation != ffi::SQLITE_FCNTL_PERSIST_WAL {
        return ffi::SQLITE_NOTFOUND;
    }
    // SAFETY: SQLite passes an open file; this operation's argument is an int: 0 off, 1 on, negative to ask.
    let (file, argument) = unsafe { (opened(file), &mut *argument.cast::<c_int>()) };
    if *argument < 0 {
        *argument = c_int::from(*file.keeps_wal());
    } else {
        *file.keeps_wal() = *argument != 0;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { opened(file) }.sector_bytes() as c_int
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    index: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the address.
    let (file, out) = unsafe { (opened(file), &mut *out) };
    *out = std::ptr::null_mut();
    let region = file.map(index as usize, size as usize, extend != 0);
    code(region.map(|region| *out = region.map_or(std::ptr::null_mut(), <*mut u8>::cast)))
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    let mask = ((1_u32 << count) - 1) << first;
    // SAFETY: SQLite passes an open file.
    code(unsafe { opened(file) }.lock_slots(mask, flags))
}

unsafe extern "C" fn shm_barrier(_file: *mut ffi::sqlite3_file) {
    SharedMemory::barrier();
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe { opened(file) }.unmap(delete != 0);
    ffi::SQLITE_OK
}

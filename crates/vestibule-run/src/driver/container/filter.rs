//! Which system calls a container may make.
//!
//! Two filters, compiled here (`seccompiler`, in Rust: there is no libseccomp to link). The first lets through what
//! programs need; any other call answers ENOSYS, which makes libraries fall back to what they did before the call
//! existed. The second answers EPERM to calls that exist, are dangerous, and are known to be refused in containers,
//! because that is what programs expect of them. In both cases the kernel does nothing. Calls of another architecture
//! end the process.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Namespaces that `clone` could make.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP) as u64;

/// Both filters, ready to be installed.
pub(super) fn compile() -> io::Result<[BpfProgram; 2]> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    Ok([
        program(allowed()?, errno(libc::ENOSYS), SeccompAction::Allow)?,
        program(refused()?, SeccompAction::Allow, errno(libc::EPERM))?,
    ])
}

/// Installs the filters. From then on this process and its children can make no other calls.
pub(super) fn install(filters: &[BpfProgram; 2]) -> io::Result<()> {
    filters.iter().try_for_each(|filter| apply_filter(filter).map_err(io::Error::other))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn program(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> io::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn allowed() -> io::Result<Rules> {
    let mut rules: Rules = COMMON.iter().chain(OLD).map(|call| (*call, Vec::new())).collect();
    // Namespaces could not be made, but mounting in one is a large part of the kernel to be exposed to.
    rules.insert(libc::SYS_clone, vec![flags(0, NAMESPACES, 0)?]);
    // Linux itself, the BSD and the 32-bit variant, and asking which it is.
    let personalities = [0x0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
    let personality = personalities.map(|wanted| equal(0, wanted));
    rules.insert(libc::SYS_personality, personality.into_iter().collect::<io::Result<_>>()?);
    // Sockets of virtual machines reach the host, past every network.
    let families = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_VSOCK as u64);
    let families = SeccompRule::new(vec![families.map_err(io::Error::other)?]).map_err(io::Error::other)?;
    rules.insert(libc::SYS_socket, vec![families]);
    Ok(rules)
}

fn refused() -> io::Result<Rules> {
    let mut rules: Rules = DANGEROUS.iter().map(|call| (*call, Vec::new())).collect();
    for bit in (0..64).map(|bit| 1 << bit).filter(|bit| NAMESPACES & bit != 0) {
        rules.entry(libc::SYS_clone).or_default().push(flags(0, bit, bit)?);
    }
    Ok(rules)
}

/// Those bits of the argument that are in `mask` have this value.
fn flags(argument: u8, mask: u64, value: u64) -> io::Result<SeccompRule> {
    let condition =
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value);
    SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
}

fn equal(argument: u8, value: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What exists on every architecture. `clone3` is not here: a filter cannot see its flags, and libraries fall back.
#[rustfmt::skip]
const COMMON: &[i64] = calls![
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_chroot SYS_clock_adjtime
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range
    SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve
    SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod
    SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock
    SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv
    SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid
    SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
    SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid
    SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch
    SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set
    SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat
    SYS_listen SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind
    SYS_membarrier SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap
    SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink
    SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap
    SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64
    SYS_process_mrelease SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat
    SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
    SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler
    SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg
    SYS_sendto SYS_set_mempolicy SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid
    SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid
    SYS_setrlimit SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget
    SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync
    SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete
    SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice
    SYS_wait4 SYS_waitid SYS_write SYS_writev
];

/// What only the oldest architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[i64] = calls![
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old
    SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents SYS_getpgrp
    SYS_inotify_init SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe
    SYS_poll SYS_readlink SYS_rename SYS_rmdir SYS_select SYS_set_thread_area SYS_signalfd SYS_stat SYS_symlink
    SYS_time SYS_unlink SYS_ustat SYS_utime SYS_utimes SYS_vfork
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

/// What can do harm and what containers are known not to have.
#[rustfmt::skip]
const DANGEROUS: &[i64] = calls![
    SYS_acct SYS_add_key SYS_bpf SYS_clock_settime SYS_delete_module SYS_fanotify_init SYS_finit_module SYS_fsconfig
    SYS_fsmount SYS_fsopen SYS_fspick SYS_init_module SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup
    SYS_kcmp SYS_kexec_load SYS_keyctl SYS_lookup_dcookie SYS_migrate_pages SYS_mount SYS_mount_setattr SYS_move_mount
    SYS_move_pages SYS_name_to_handle_at SYS_open_by_handle_at SYS_open_tree SYS_perf_event_open SYS_pidfd_getfd
    SYS_pivot_root SYS_process_madvise SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace SYS_quotactl SYS_reboot
    SYS_request_key SYS_setdomainname SYS_sethostname SYS_setns SYS_settimeofday SYS_swapoff SYS_swapon SYS_syslog
    SYS_umount2 SYS_unshare SYS_userfaultfd SYS_vhangup
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_and_says_nothing_twice() {
        let filters = compile().unwrap();
        assert!(filters.iter().all(|filter| filter.len() > 40));
        assert!(filters[0].len() < 4096, "the kernel takes no longer ones");
        let allowed = allowed().unwrap();
        for call in DANGEROUS {
            assert!(!allowed.contains_key(call), "{call} is both");
        }
        assert!(!allowed.contains_key(&libc::SYS_clone3));
    }
}

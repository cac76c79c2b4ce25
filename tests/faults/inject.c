/* Fails the n-th call of one kind in a tree of processes.
 *
 *     inject --call write --nth 17 --errno 28 --report FILE [--span 1] [--only ccci-worker] -- COMMAND...
 *
 * A seccomp filter hands every call of this kind to a listener outside of the tree, which counts the calls of our own
 * programs and answers one of them, or a span of them, with the error. All others go on in the kernel. The count is one
 * for the whole tree, whichever process makes the call; nobody is traced, so that signals, parent deaths and vfork are
 * as they always are; a call that no library wraps is seen too. ptrace counts per process and stops each of them, and a
 * preloaded library sees the calls of libc alone.
 *
 * The report's first line has the number of calls so far, the others tell of the failed ones: number, process, path.
 * With --nth 0 none fails and all are told of. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "add this machine's audit architecture"
#endif
/* Since Linux 5.19; a listener that has taken a call is not asked a second time because of a signal. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* What the first arguments of a call are. */
enum shape { PLAIN, FD, FILE_FD, PATH_AT, PATH, CREATES };

struct call {
	const char *name;
	int nr;
	enum shape shape;
};

/* A kind is all calls of one name. FILE_FD and CREATES count only what needs room on a disk. */
static const struct call calls[] = {
#define CALL(name, call, shape) {name, __NR_##call, shape},
	CALL("write", write, FILE_FD) CALL("write", writev, FILE_FD) CALL("write", pwrite64, FILE_FD)
	CALL("read", read, FILE_FD) CALL("read", pread64, FILE_FD)
	CALL("fsync", fsync, FD) CALL("fsync", fdatasync, FD)
	CALL("openat", openat, PATH_AT) CALL("openat", openat2, PATH_AT)
	CALL("create", openat, CREATES)
	CALL("rename", renameat, PATH_AT) CALL("rename", renameat2, PATH_AT)
	CALL("mkdir", mkdirat, PATH_AT) CALL("unlink", unlinkat, PATH_AT)
	CALL("stat", statx, PATH_AT) CALL("stat", newfstatat, PATH_AT)
	CALL("getdents", getdents64, FD) CALL("flock", flock, FD)
	CALL("clone", clone, PLAIN) CALL("clone", clone3, PLAIN)
	CALL("exec", execve, PATH) CALL("pipe", pipe2, PLAIN) CALL("socket", socket, PLAIN) CALL("connect", connect, FD)
	CALL("pidfd", pidfd_open, PLAIN) CALL("wait", waitid, PLAIN) CALL("wait", wait4, PLAIN)
	CALL("mmap", mmap, PLAIN) CALL("poll", ppoll, PLAIN) CALL("copy", copy_file_range, FD) CALL("link", linkat, PATH_AT)
	CALL("symlink", symlinkat, PATH) CALL("dup", dup3, FD) CALL("dup", fcntl, FD) CALL("prctl", prctl, PLAIN)
	CALL("signalfd", signalfd4, PLAIN) CALL("timerfd", timerfd_create, PLAIN) CALL("chdir", chdir, PATH)
	CALL("chmod", fchmod, FD) CALL("readlink", readlinkat, PATH_AT)
#ifdef __x86_64__
	CALL("openat", open, PATH) CALL("rename", rename, PATH) CALL("mkdir", mkdir, PATH) CALL("unlink", unlink, PATH)
	CALL("unlink", rmdir, PATH) CALL("stat", stat, PATH) CALL("stat", lstat, PATH) CALL("clone", fork, PLAIN)
	CALL("clone", vfork, PLAIN) CALL("pipe", pipe, PLAIN) CALL("poll", poll, PLAIN) CALL("symlink", symlink, PATH)
	CALL("link", link, PATH) CALL("dup", dup2, FD) CALL("chmod", chmod, PATH) CALL("readlink", readlink, PATH)
#endif
};
#define CALLS (sizeof calls / sizeof *calls)

static const char *kind, *report, *only;
static long nth, span = 1;
static int error;

static void die(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	_exit(99);
}

/* The filter; the listener's fd. */
static int install(void)
{
	struct sock_filter code[5 + 2 * CALLS];
	unsigned short n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	unsigned short before = n;
	for (size_t i = 0; i < CALLS; i++) {
		if (strcmp(calls[i].name, kind) != 0)
			continue;
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].nr, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	}
	if (n == before) {
		errno = EINVAL;
		die(kind);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = n, .filter = code};
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (fd == -1 && errno == EACCES) {
		/* Without CAP_SYS_ADMIN. Nothing of ours gains privileges by an exec. */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	}
	if (fd == -1)
		die("seccomp");
	return (int)fd;
}

static void hand_over(int socket, int fd)
{
	char byte = 0;
	struct iovec data = {&byte, 1};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof fd)];
	} control = {0};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	if (sendmsg(socket, &message, 0) != 1)
		die("sendmsg");
}

static int take_over(int socket)
{
	char byte;
	int fd;
	struct iovec data = {&byte, 1};
	char control[CMSG_SPACE(sizeof fd)];
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
		die("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

/* The name of a process; empty when it is gone. */
static void name_of(unsigned pid, char *name, size_t room)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%u/comm", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd == -1 ? 0 : read(fd, name, room - 1);
	if (fd != -1)
		close(fd);
	name[n > 0 ? n - 1 : 0] = 0;
}

static void text_of(unsigned pid, unsigned long long address, char *text, size_t room)
{
	/* A page at most: the next one may not be there. */
	size_t page = 4096 - address % 4096;
	struct iovec to = {text, page < room ? page : room - 1}, from = {(void *)(unsigned long)address, to.iov_len};
	ssize_t n = process_vm_readv((pid_t)pid, &to, 1, &from, 1, 0);
	text[n > 0 ? n : 0] = 0;
	for (char *at = text; *at; at++)
		if (*at == '\n')
			*at = ' ';
}

static void fd_of(unsigned pid, int fd, char *text, size_t room)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%u/fd/%d", pid, fd);
	ssize_t n = readlink(path, text, room - 1);
	text[n > 0 ? n : 0] = 0;
}

/* Whether a call counts, and what it is aimed at. */
static int counts(const struct seccomp_notif *asked, char *target, size_t room)
{
	const struct call *call = NULL;
	for (size_t i = 0; i < CALLS && !call; i++)
		if (calls[i].nr == asked->data.nr && strcmp(calls[i].name, kind) == 0)
			call = &calls[i];
	target[0] = 0;
	if (!call)
		return 0;
	const __u64 *args = asked->data.args;
	switch (call->shape) {
	case PLAIN:
		snprintf(target, room, "%s(%#llx, %#llx)", call->name, args[0], args[1]);
		return 1;
	case FD:
		fd_of(asked->pid, (int)args[0], target, room);
		return 1;
	case FILE_FD:
		fd_of(asked->pid, (int)args[0], target, room);
		return target[0] == '/' && strncmp(target, "/proc/", 6) != 0 && strncmp(target, "/dev/", 5) != 0;
	case PATH:
		text_of(asked->pid, args[0], target, room);
		return 1;
	case PATH_AT:
		text_of(asked->pid, args[1], target, room);
		return 1;
	case CREATES:
		text_of(asked->pid, args[1], target, room);
		return (args[2] & O_CREAT) != 0;
	}
	return 0;
}

static void listen_to(int listener)
{
	struct seccomp_notif_sizes sizes;
	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == -1)
		die("seccomp");
	struct seccomp_notif *asked = calloc(1, sizes.seccomp_notif);
	struct seccomp_notif_resp *answer = calloc(1, sizes.seccomp_notif_resp);
	int out = open(report, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out == -1 || !asked || !answer)
		die(report);
	long seen = 0;
	char name[32], target[512], line[640], head[24];
	if (write(out, "0000000000\n", 11) != 11)
		die(report);
	for (;;) {
		struct pollfd ready = {.fd = listener, .events = POLLIN};
		if (poll(&ready, 1, -1) == -1 && errno != EINTR)
			die("poll");
		if (ready.revents & (POLLHUP | POLLERR))
			_exit(0);
		memset(asked, 0, sizes.seccomp_notif);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, asked) == -1)
			continue;
		memset(answer, 0, sizes.seccomp_notif_resp);
		answer->id = asked->id;
		answer->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		name_of(asked->pid, name, sizeof name);
		int ours = only ? strcmp(name, only) == 0 : strncmp(name, "cc-ci-", 6) == 0 || strncmp(name, "ccci-", 5) == 0;
		if (ours && counts(asked, target, sizeof target)) {
			seen++;
			int fails = nth && seen >= nth && seen < nth + span;
			if (fails || !nth) {
				int n = snprintf(line, sizeof line, "%ld %s %s\n", seen, name, target);
				if (lseek(out, 0, SEEK_END) == -1 || write(out, line, (size_t)n) != n)
					die(report);
			}
			if (fails) {
				answer->flags = 0;
				answer->error = -error;
			}
			snprintf(head, sizeof head, "%010ld", seen);
			if (pwrite(out, head, 10, 0) != 10)
				die(report);
		}
		/* Who asked may be dead by now. */
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer);
	}
}

static char **options(char **word)
{
	for (; *word && strcmp(*word, "--") != 0; word += 2) {
		const char *value = word[1];
		if (!value)
			break;
		else if (strcmp(*word, "--call") == 0)
			kind = value;
		else if (strcmp(*word, "--nth") == 0)
			nth = atol(value);
		else if (strcmp(*word, "--span") == 0)
			span = atol(value);
		else if (strcmp(*word, "--errno") == 0)
			error = atoi(value);
		else if (strcmp(*word, "--report") == 0)
			report = value;
		else if (strcmp(*word, "--only") == 0)
			only = value;
	}
	if (!kind || !report || !*word || !word[1]) {
		errno = EINVAL;
		die("usage: --call KIND --nth N --errno E --report FILE [--span N] [--only NAME] -- COMMAND...");
	}
	return word + 1;
}

int main(int argc, char **argv)
{
	(void)argc;
	char **command = options(argv + 1);
	if (strcmp(command[0], "LISTEN") == 0) {
		listen_to(take_over(0));
		return 0;
	}
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		die("socketpair");
	pid_t child = fork();
	if (child == -1)
		die("fork");
	if (child == 0) {
		/* Nobody's child, in a session of its own, without the caller's environment and output: no part of what it
		 * listens to. */
		if (fork() != 0)
			_exit(0);
		setsid();
		dup2(ends[1], 0);
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		command[0] = "LISTEN";
		command[1] = NULL;
		char *nothing[] = {NULL};
		execve("/proc/self/exe", argv, nothing);
		die("exec");
	}
	waitpid(child, NULL, 0);
	close(ends[1]);
	hand_over(ends[0], install());
	close(ends[0]);
	execvp(command[0], command);
	die(command[0]);
}

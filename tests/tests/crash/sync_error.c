/* Lets one sync of a journal fail: that of the thread named in ZIZQ_TEST_THREAD, once the file ZIZQ_TEST_ARMED is there,
   which is then removed. With ZIZQ_TEST_HEARD=each, every other descriptor of a journal hears of it once, too, as on Linux. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int failures;
static atomic_int heard[65536];

static int is_journal(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    return len > 4 && strncmp(path + len - 4, ".jnl", 4) == 0;
}

static int fails(int fd) {
    char name[32] = "";
    const char *thread = getenv("ZIZQ_TEST_THREAD"), *armed = getenv("ZIZQ_TEST_ARMED");
    if (!thread || !armed || fd < 0 || fd >= 65536 || !is_journal(fd)) return 0;
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, thread) == 0 && unlink(armed) == 0) {
        const char *who = getenv("ZIZQ_TEST_HEARD");
        if (who && strcmp(who, "each") == 0) heard[fd] = ++failures;
        return 1;
    }
    int now = failures;
    return atomic_exchange(&heard[fd], now) != now;
}

/* What is opened later has heard of everything. */
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int fd = ((int (*)(const char *, int, int))dlsym(RTLD_NEXT, "open64"))(path, flags, va_arg(rest, int));
    va_end(rest);
    if (fd >= 0 && fd < 65536) heard[fd] = failures;
    return fd;
}

int fdatasync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

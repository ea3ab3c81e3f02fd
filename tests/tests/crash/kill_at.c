/* Kills the process where a thread is about to do something to a file: the thread named in ZIZQ_TEST_THREAD, at the n-th
   time after the file ZIZQ_TEST_ARMED has come to be there, which says n. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void step(void) {
    static int done;
    char name[32] = "";
    const char *thread = getenv("ZIZQ_TEST_THREAD"), *armed = getenv("ZIZQ_TEST_ARMED");
    int at = 0;
    if (!thread || !armed) return;
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, thread) != 0) return;
    FILE *file = fopen(armed, "r");
    if (!file) return;
    if (fscanf(file, "%d", &at) == 1 && ++done == at) kill(getpid(), SIGKILL);
    fclose(file);
}

ssize_t write(int fd, const void *bytes, size_t len) {
    step();
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, len);
}

ssize_t writev(int fd, const void *parts, int count) {
    step();
    return ((ssize_t (*)(int, const void *, int))dlsym(RTLD_NEXT, "writev"))(fd, parts, count);
}

int rename(const char *from, const char *to) {
    step();
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}

int unlink(const char *path) {
    step();
    return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}

int ftruncate64(int fd, off64_t len) {
    step();
    return ((int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64"))(fd, len);
}

int fdatasync(int fd) {
    step();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
    step();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

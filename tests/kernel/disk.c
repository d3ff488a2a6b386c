// A disk that says what it is asked, goes before the C library's: LD_PRELOAD.
// DISK_LOG: a file that gets a line for each rename, fsync and sync.
// DISK_CUT: the power goes at the first sync.
// DISK_BREAKS: a folder whose files cannot be written to the disk, which only fsync says.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char *what, const char *path) {
    char line[8300];
    const char *log = getenv("DISK_LOG");
    int n = snprintf(line, sizeof line, "%s %s\n", what, path);
    int fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        if (write(fd, line, n) != n) abort();
        close(fd);
    }
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    int done = real(from, to);
    if (!done) say("rename", to);
    return done;
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    char link[64], path[4096] = "";
    const char *broken = getenv("DISK_BREAKS");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0) return -1;
    if (broken && !strncmp(path, broken, strlen(broken))) {
        errno = EIO;
        return -1;
    }
    int done = real(fd);
    if (!done) say("fsync", path);
    return done;
}

void sync(void) {
    if (getenv("DISK_CUT")) _exit(9);
    void (*real)(void) = dlsym(RTLD_NEXT, "sync");
    real();
    say("sync", "all");
}

/* The program of the test image. Its first argument says what it is; as a server it does what it is asked by path. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dirent.h>

extern char **environ;
static char answer[1 << 16];

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    size_t used = strlen(answer);
    __builtin_va_list args;
    __builtin_va_start(args, format);
    vsnprintf(answer + used, sizeof answer - used, format, args);
    __builtin_va_end(args);
}

static void read_file(const char *path) {
    static char buffer[32768];
    int file = open(path, O_RDONLY);
    if (file < 0) {
        say("error %s", strerror(errno));
        return;
    }
    ssize_t count = read(file, buffer, sizeof buffer - 1);
    close(file);
    buffer[count < 0 ? 0 : count] = 0;
    say("%s", count < 0 ? strerror(errno) : buffer);
}

static void write_file(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, "written", 7) != 7)
        say("error %s", strerror(errno));
    else
        say("ok");
    if (file >= 0)
        close(file);
}

static void list(const char *path) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    if (!folder) {
        say("error %s", strerror(errno));
        return;
    }
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            say("%s ", entry->d_name);
    closedir(folder);
}

static void call(const char *what) {
    long number = atol(what), result;
    errno = 0;
    result = syscall(number, number == SYS_clone ? CLONE_NEWUSER | SIGCHLD : 0, 0, 0, 0, 0, 0);
    if (result == 0 && number == SYS_clone)
        _exit(0);
    say("%s", result < 0 ? strerror(errno) : "allowed");
}

static void connect_to(const char *where) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    char ip[64];
    int port = 0;
    sscanf(where, "%63[^:]:%d", ip, &port);
    inet_pton(AF_INET, ip, &to.sin_addr);
    to.sin_port = htons(port);
    int out = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(out, (struct sockaddr *)&to, sizeof to)) {
        say("error %s", strerror(errno));
    } else {
        char text[4096];
        const char *ask = "GET / HTTP/1.0\r\n\r\n";
        if (write(out, ask, strlen(ask)) < 0)
            say("error");
        ssize_t count;
        while ((count = read(out, text, sizeof text - 1)) > 0) {
            text[count] = 0;
            say("%s", text);
        }
    }
    close(out);
}

static void who(void) {
    char name[256], folder[256];
    gid_t groups[32];
    int count = getgroups(32, groups);
    gethostname(name, sizeof name);
    if (!getcwd(folder, sizeof folder))
        strcpy(folder, "?");
    say("uid=%d gid=%d pid=%d host=%s cwd=%s groups=", getuid(), getgid(), getpid(), name, folder);
    for (int at = 0; at < count; at++)
        say("%d,", groups[at]);
}

/* Waits for ever, without the connection that it was made on. */
static void stay(void) {
    close_range(3, ~0U, 0);
    for (;;)
        pause();
}

/* As many children as can be had, all of which stay. */
static void bomb(void) {
    int made = 0, child;
    while (made < 100000 && (child = fork()) >= 0) {
        if (!child)
            stay();
        made++;
    }
    say("%d %s", made, strerror(errno));
}

/* An orphan that outlives its parent, in a session of its own. */
static void orphan(void) {
    pid_t child = fork();
    if (!child) {
        setsid();
        if (!fork())
            stay();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    say("ok");
}

static void use_memory(void) {
    for (;;) {
        char *more = malloc(1 << 20);
        if (more)
            memset(more, 1, 1 << 20);
    }
}

static void handle(char *path) {
    answer[0] = 0;
    char *value = strchr(path, '?');
    if (value)
        *value++ = 0;
    else
        value = "";
    if (!strcmp(path, "/who"))
        who();
    else if (!strcmp(path, "/env"))
        for (char **at = environ; *at; at++)
            say("%s\n", *at);
    else if (!strcmp(path, "/read"))
        read_file(value);
    else if (!strcmp(path, "/write"))
        write_file(value);
    else if (!strcmp(path, "/list"))
        list(value);
    else if (!strcmp(path, "/link"))
        say("%s", symlink("/tmp", value) ? strerror(errno) : "ok");
    else if (!strcmp(path, "/call"))
        call(value);
    else if (!strcmp(path, "/connect"))
        connect_to(value);
    else if (!strcmp(path, "/bomb"))
        bomb();
    else if (!strcmp(path, "/orphan"))
        orphan();
    else if (!strcmp(path, "/memory"))
        use_memory();
    else if (!strcmp(path, "/exit"))
        exit(atoi(value));
    else
        say("hello");
}

static void serve(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 128)) {
        perror("listen");
        exit(9);
    }
    for (;;) {
        static char request[8192], head[256];
        int stream = accept(listener, NULL, NULL);
        size_t used = 0;
        ssize_t count;
        while ((count = read(stream, request + used, sizeof request - 1 - used)) > 0) {
            used += count;
            request[used] = 0;
            if (strstr(request, "\r\n\r\n"))
                break;
        }
        char *path = strchr(request, ' ');
        if (used && path) {
            char *end = strchr(++path, ' ');
            if (end)
                *end = 0;
            handle(path);
            sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", strlen(answer));
            if (write(stream, head, strlen(head)) < 0 || write(stream, answer, strlen(answer)) < 0)
                perror("write");
        }
        close(stream);
    }
}

static void bye(int signal) {
    (void)signal;
    const char *text = "bye\n";
    if (write(1, text, strlen(text)) < 0)
        _exit(1);
    _exit(3);
}

int main(int count, char **args) {
    const char *mode = count > 1 ? args[1] : "serve";
    const char *port = getenv("PORT");
    printf("started %s\n", mode);
    fflush(stdout);
    if (!strcmp(mode, "exit"))
        return 7;
    if (!strcmp(mode, "sleep"))
        for (;;)
            pause();
    if (!strcmp(mode, "flood"))
        for (;;)
            puts("too much of everything");
    if (!strcmp(mode, "stubborn"))
        signal(SIGTERM, SIG_IGN);
    if (!strcmp(mode, "polite"))
        signal(SIGTERM, bye);
    if (!strcmp(mode, "reopen")) {
        int again = open("/dev/stdout", O_WRONLY);
        dprintf(again, "reopened\n");
    }
    serve(port ? atoi(port) : count > 2 ? atoi(args[2]) : 8080);
}

/* load: the load client of the benchmarks, and a server that shows how much the client can take.

   load read PORT PATH CONNECTIONS RAMP_MS WARM_MS WINDOW_MS
       Opens the connections evenly over the ramp, reads, prints "begin" after the warm-up and one
       line of JSON after the window, and keeps the connections until its input is closed.
   load open PORT PATH AT_ONCE WARM_MS WINDOW_MS
       Connects, waits for the first event, closes, and begins again, in AT_ONCE places.
   load serve PORT
       Answers /BYTES/PAUSE_MS as every rival does, from frames that were made beforehand.

   What an event is, `reading.h` says. One thread, one epoll; only 127.0.0.1, only Linux. */

#include "reading.h"

enum { BATCH = 64 };
enum { NEVER_MS = 60000 }; /* from this pause on, a connection gets one event and no more */

/* --- the client */

/* Read, or open and close, until the window is over; say what was seen in it. */
static void load(int connections, double ramp_ms, double warm_ms, double window_ms, int reopen) {
    struct reader *readers = calloc(connections, sizeof *readers);
    struct epoll_event ready[READY];
    int opened = 0, lost = 0;
    int64_t start = now_us(), cycles = 0;
    int64_t begin = start + (int64_t)(1000 * (ramp_ms + warm_ms));
    int64_t end = begin + (int64_t)(1000 * window_ms), now = start;
    while (now < end) {
        double due = ramp_ms > 0 ? connections * (now - start) / (1000 * ramp_ms) : connections;
        while (opened < connections && opened <= due) open_reader(&readers[opened++]);
        if (!sampling && now >= begin) begin_window(), cycles = 0;
        int count = epoll_wait(epoll, ready, READY, 1);
        for (int i = 0; i < count; i++) {
            struct reader *reader = ready[i].data.ptr;
            int64_t events_so_far = events;
            int open = read_some(reader);
            int done = reopen && events > events_so_far;
            if (open && !done) continue;
            if (done) sample(now_us() - reader->opened_us), cycles++;
            else lost++;
            close(reader->fd);
            if (reopen) open_reader(reader);
        }
        now = now_us();
    }
    end_window(cycles, lost);
}

/* --- the server */

struct client {
    int fd, alive, queued;
    long size, pause_ms;
    size_t sent; /* of the batch */
    int64_t due_us;
    struct client *next;
};

static struct client *first, *last; /* by when they are due: a run has one pause for all */
static char batch[BATCH * 4096 + 64];
static size_t batch_bytes;
static long batch_size;

static size_t put_frame(char *to, long size, int64_t at, long number) {
    int text = size > 45 ? size - 45 : 0;
    size_t head = sprintf(to, "id: %ld\nevent: token\ndata: {\"at_us\":%lld,\"index\":%ld,\"text\":\"",
                          number, (long long)at, number);
    memset(to + head, 'x', text);
    return head + text + sprintf(to + head + text, "\"}\n\n");
}

static void make_batch(long size) {
    static char frames[sizeof batch];
    size_t length = 0;
    for (int i = 0; i < BATCH; i++) length += put_frame(frames + length, size, 0, i);
    batch_size = size;
    batch_bytes = sprintf(batch, "%zx\r\n%.*s\r\n", length, (int)length, frames);
}

static void send_one(struct client *client, int64_t now) {
    static char frame[4096], chunk[4200];
    size_t length = put_frame(frame, client->size, now, 0);
    length = sprintf(chunk, "%zx\r\n%.*s\r\n", length, (int)length, frame);
    send(client->fd, chunk, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (client->pause_ms >= NEVER_MS) return;
    client->due_us = now + client->pause_ms * 1000;
    client->next = NULL;
    client->queued = 1;
    *(first ? &last->next : &first) = client;
    last = client;
}

static void begin_answer(struct client *client) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    if (sscanf(buffer, "GET /%ld/%ld", &client->size, &client->pause_ms) != 2) return;
    send(client->fd, head, sizeof head - 1, MSG_NOSIGNAL);
    if (client->pause_ms) {
        send_one(client, now_us());
    } else {
        if (batch_size != client->size) make_batch(client->size);
        watch(client->fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD, client);
    }
}

static void blast(struct client *client) {
    size_t left = batch_bytes - client->sent;
    ssize_t sent = send(client->fd, batch + client->sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) client->sent = (client->sent + sent) % batch_bytes;
}

static void serve(void) {
    struct epoll_event ready[READY];
    struct sockaddr_in at = address();
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("bind");
    watch(listener, EPOLLIN, EPOLL_CTL_ADD, NULL);
    for (;;) {
        int count = epoll_wait(epoll, ready, READY, first ? 1 : -1);
        int64_t now = now_us();
        while (first && (!first->alive || first->due_us <= now)) {
            struct client *client = first;
            first = client->next;
            client->queued = 0;
            client->alive ? send_one(client, now) : free(client);
        }
        for (int i = 0; i < count; i++) {
            struct client *client = ready[i].data.ptr;
            if (!client) {
                client = calloc(1, sizeof *client);
                client->alive = 1;
                client->fd = accept(listener, NULL, NULL);
                if (client->fd < 0) fail("accept");
                setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                watch(client->fd, EPOLLIN, EPOLL_CTL_ADD, client);
            } else if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t got = recv(client->fd, buffer, sizeof buffer - 1, MSG_DONTWAIT);
                if (got > 0) {
                    buffer[got] = 0;
                    begin_answer(client);
                } else {
                    close(client->fd);
                    client->alive = 0;
                    if (!client->queued) free(client);
                }
            } else blast(client);
        }
    }
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    if (count >= 3) port = atoi(words[2]);
    if (count >= 4)
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", words[3]);
    if (count == 3 && !strcmp(words[1], "serve")) serve();
    else if (count == 8 && !strcmp(words[1], "read"))
        load(atoi(words[4]), atof(words[5]), atof(words[6]), atof(words[7]), 0);
    else if (count == 7 && !strcmp(words[1], "open"))
        load(atoi(words[4]), 0, atof(words[5]), atof(words[6]), 1);
    else return 2;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/** manifest_send.c: a manifest through a socket, frame by frame, and across an exec. */
#include "base/write_all.h"
#include "daemon/manifest_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

union rights {
    char bytes[CMSG_SPACE(WEIR_FRAME_FDS_MAX * sizeof(int))];
    struct cmsghdr align;
};

/* ---- out ---- */

struct frame {
    char bytes[WEIR_FRAME_BYTES_MAX];
    size_t len;
    unsigned entries;
    int fds[WEIR_FRAME_FDS_MAX];
    size_t fds_count;
};

static int frame_send(int channel, struct frame *frame, unsigned word, bool last, int flags)
{
    struct frame_head head = {
        .magic = MANIFEST_MAGIC,
        .version = WEIR_MANIFEST_VERSION,
        .word = (uint16_t)word,
        .flags = last ? FRAME_LAST : 0,
        .entries = frame->entries,
        .bytes = (uint32_t)(frame->len - sizeof(head)),
    };
    struct iovec iov = { frame->bytes, frame->len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    union rights rights;
    ssize_t n;

    memcpy(frame->bytes, &head, sizeof(head));
    if (frame->fds_count) {
        size_t bytes = frame->fds_count * sizeof(int);
        struct cmsghdr *cmsg;

        memset(&rights, 0, sizeof(rights));
        msg.msg_control = &rights;
        msg.msg_controllen = CMSG_SPACE(bytes);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(cmsg), frame->fds, bytes);
    }
    do
        n = sendmsg(channel, &msg, MSG_NOSIGNAL | flags);
    while (n < 0 && errno == EINTR);
    frame->len = sizeof(head);
    frame->entries = 0;
    frame->fds_count = 0;
    return n < 0 ? -errno : 0;
}

/* `flags` MSG_DONTWAIT: in one frame, or not at all. */
static int send_all(int channel, unsigned word, const struct weir_manifest *manifest, int flags)
{
    struct frame *frame = malloc(sizeof(*frame));
    int err = frame ? 0 : -ENOMEM;

    if (frame) {
        frame->len = sizeof(struct frame_head);
        frame->entries = 0;
        frame->fds_count = 0;
    }
    for (size_t i = 0; manifest && i < manifest->count && !err; i++) {
        const struct weir_entry *entry = &manifest->at[i];

        if (frame->len + manifest_entry_bytes(entry) > sizeof(frame->bytes) ||
            frame->fds_count == WEIR_FRAME_FDS_MAX)
            err = flags ? -EMSGSIZE : frame_send(channel, frame, word, false, 0);
        if (err)
            break;
        if (entry->fd >= 0)
            frame->fds[frame->fds_count++] = entry->fd;
        frame->len += manifest_put(frame->bytes + frame->len, entry, entry->fd >= 0 ? 0 : -1);
        frame->entries++;
    }
    if (!err)
        err = frame_send(channel, frame, word, true, flags);
    free(frame);
    return err;
}

int weir_manifest_send(int channel, unsigned word, const struct weir_manifest *manifest)
{
    return send_all(channel, word, manifest, 0);
}

int weir_manifest_post(int channel, unsigned word, const struct weir_manifest *manifest)
{
    return send_all(channel, word, manifest, MSG_DONTWAIT);
}

/* ---- in ---- */

/* The descriptors of a frame; how many. */
static size_t rights_take(struct msghdr *msg, int fds[WEIR_FRAME_FDS_MAX])
{
    size_t count = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        if (bytes / sizeof(int) >
            WEIR_FRAME_FDS_MAX - count) /* more than there is room for above */
            bytes = (WEIR_FRAME_FDS_MAX - count) * sizeof(int);
        memcpy(fds + count, CMSG_DATA(cmsg), bytes);
        count += bytes / sizeof(int);
    }
    return count;
}

/* Of a message whose descriptors are not all here: which it is, and when it is over. */
static int frame_drop(struct weir_inbox *inbox, const char *bytes, size_t len, const int *fds,
                      size_t fds_count, unsigned *word, bool *last)
{
    struct frame_head head;
    int err = manifest_head(&head, bytes, len);

    while (fds_count > 0)
        close(fds[--fds_count]);
    weir_manifest_fini(&inbox->body);
    *word = head.word;
    *last = head.flags & FRAME_LAST;
    return err;
}

static int frame_take(struct weir_inbox *inbox, const char *bytes, size_t len, int *fds,
                      size_t fds_count, bool *last)
{
    unsigned word;
    int err = inbox->lost
                  ? frame_drop(inbox, bytes, len, fds, fds_count, &word, last)
                  : weir_manifest_parse(bytes, len, fds, fds_count, &word, last, &inbox->body);

    if (!err && inbox->word && word != inbox->word)
        err = -EBADMSG; /* the frames of a message follow each other */
    inbox->word = word;
    return err;
}

int weir_manifest_recv(int channel, int flags, struct weir_inbox *inbox, unsigned *word,
                       struct weir_manifest *body)
{
    char bytes[WEIR_FRAME_BYTES_MAX];
    int fds[WEIR_FRAME_FDS_MAX];
    union rights rights;
    struct iovec iov = { bytes, sizeof(bytes) };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof(rights)
    };
    bool last = false;
    size_t count;
    ssize_t n;
    int err;

    do
        n = recvmsg(channel, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    count = rights_take(&msg, fds);
    if (n == 0 && count == 0)
        return -EPIPE;
    inbox->lost |= msg.msg_flags & MSG_CTRUNC;
    err = frame_take(inbox, bytes, (size_t)n, fds, count, &last);
    if (!err && (msg.msg_flags & MSG_TRUNC))
        err = -EBADMSG;
    if (err) {
        weir_inbox_fini(inbox);
        return err;
    }
    if (!last)
        return 0;
    *word = inbox->word;
    *body = inbox->body;
    n = inbox->lost ? -EMFILE : 1;
    *inbox = (struct weir_inbox){ 0 };
    return (int)n;
}

void weir_inbox_fini(struct weir_inbox *inbox)
{
    weir_manifest_fini(&inbox->body);
    *inbox = (struct weir_inbox){ 0 };
}

/* ---- across an exec ---- */

static int save_entry(int to, const struct weir_entry *entry, char *room)
{
    size_t len = manifest_put(room, entry, entry->fd);

    if (entry->fd >= 0 && fcntl(entry->fd, F_SETFD, 0) != 0)
        return -errno;
    return weir_write_all(to, room, len);
}

int weir_manifest_save(const struct weir_manifest *manifest)
{
    int fd = memfd_create("weir-manifest", 0), err;
    struct frame_head head = { .magic = MANIFEST_MAGIC,
                               .version = WEIR_MANIFEST_VERSION,
                               .word = 1,
                               .flags = FRAME_LAST,
                               .entries = (uint32_t)manifest->count };
    char *room = malloc(WEIR_FRAME_BYTES_MAX);
    size_t bytes = 0;

    for (size_t i = 0; i < manifest->count; i++)
        bytes += manifest_entry_bytes(&manifest->at[i]);
    head.bytes = (uint32_t)bytes;
    err = fd < 0 ? -errno : !room ? -ENOMEM : weir_write_all(fd, &head, sizeof(head));
    for (size_t i = 0; i < manifest->count && !err; i++)
        err = save_entry(fd, &manifest->at[i], room);
    free(room);
    if (!err && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return err ?: -EIO;
}

static int load_entries(const char *at, size_t left, unsigned entries,
                        struct weir_manifest *manifest)
{
    for (unsigned i = 0; i < entries; i++) {
        struct entry_head head;
        int err;

        if (left < sizeof(head))
            return -EBADMSG;
        memcpy(&head, at, sizeof(head));
        at += sizeof(head);
        left -= sizeof(head);
        if (!manifest_entry_good(&head, at, left) ||
            (head.fd >= 0 && fcntl(head.fd, F_SETFD, FD_CLOEXEC) != 0))
            return -EBADMSG;
        err = manifest_take(manifest, &head, at, head.fd);
        if (err)
            return err;
        at += head.name_len + head.value_len;
        left -= head.name_len + head.value_len;
    }
    return left ? -EBADMSG : 0;
}

int weir_manifest_load(int fd, struct weir_manifest *manifest)
{
    struct frame_head head;
    struct stat st;
    char *data;
    int err;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(head) || st.st_size > 1 << 30)
        return -EBADMSG;
    data = malloc((size_t)st.st_size);
    if (!data)
        return -ENOMEM;
    err = pread(fd, data, (size_t)st.st_size, 0) == st.st_size ? 0 : -EIO;
    if (!err) {
        memcpy(&head, data, sizeof(head));
        err = head.magic != MANIFEST_MAGIC            ? -EBADMSG
              : head.version != WEIR_MANIFEST_VERSION ? -EPROTO
              : head.word != 1 || head.zero || head.flags != FRAME_LAST ||
                      head.bytes != (size_t)st.st_size - sizeof(head)
                  ? -EBADMSG
                  : load_entries(data + sizeof(head), head.bytes, head.entries, manifest);
    }
    free(data);
    return err;
}

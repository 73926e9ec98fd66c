/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/websocket.h"

#include <openssl/evp.h>

enum { KEY_BYTES = 24, RAW_BYTES = 16, SHA1_BYTES = 20, ACCEPT_BYTES = 28 };

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static struct weir_str base64(struct weir_arena *arena, const void *bytes, int len, size_t out_len)
{
    char *out = weir_arena_text(arena, out_len + 1);

    if (!out)
        return (struct weir_str){ NULL, 0 };
    EVP_EncodeBlock((unsigned char *)out, bytes, len);
    return (struct weir_str){ out, out_len };
}

struct weir_str weir_websocket_key(struct weir_arena *arena, const uint64_t random[2])
{
    return base64(arena, random, RAW_BYTES, KEY_BYTES);
}

bool weir_websocket_key_good(struct weir_str key)
{
    unsigned char raw[KEY_BYTES];

    return key.len == KEY_BYTES && key.ptr[22] == '=' && key.ptr[23] == '=' &&
           EVP_DecodeBlock(raw, (const unsigned char *)key.ptr, KEY_BYTES) == RAW_BYTES + 2;
}

struct weir_str weir_websocket_accept(struct weir_arena *arena, struct weir_str key)
{
    unsigned char text[KEY_BYTES + sizeof(guid) - 1], digest[SHA1_BYTES];

    if (key.len != KEY_BYTES)
        return (struct weir_str){ NULL, 0 };
    memcpy(text, key.ptr, KEY_BYTES);
    memcpy(text + KEY_BYTES, guid, sizeof(guid) - 1);
    if (EVP_Digest(text, sizeof(text), digest, NULL, EVP_sha1(), NULL) != 1)
        return (struct weir_str){ NULL, 0 };
    return base64(arena, digest, SHA1_BYTES, ACCEPT_BYTES);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A chained hash in shards with a lock each: taken once at accept and once at close, and only where
 * the limit is set. */
#include "proxy/client_count.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

enum { SHARDS = 64, BUCKETS = 1024 };

struct node {
    struct node *next;
    uint8_t key[16];
    uint64_t count;
};

struct shard {
    pthread_mutex_t lock;
    struct node *buckets[BUCKETS];
};

struct weir_client_counts {
    uint64_t seed[2];
    struct shard shards[SHARDS];
};

struct weir_client_counts *weir_client_counts_new(void)
{
    struct weir_client_counts *counts = calloc(1, sizeof(*counts));

    if (!counts)
        return NULL;
    if (getrandom(counts->seed, sizeof(counts->seed), 0) != sizeof(counts->seed)) {
        free(counts);
        return NULL;
    }
    for (int i = 0; i < SHARDS; i++)
        pthread_mutex_init(&counts->shards[i].lock, NULL);
    return counts;
}

void weir_client_counts_free(struct weir_client_counts *counts)
{
    if (!counts)
        return;
    for (int i = 0; i < SHARDS; i++) {
        for (int b = 0; b < BUCKETS; b++)
            while (counts->shards[i].buckets[b]) {
                struct node *node = counts->shards[i].buckets[b];

                counts->shards[i].buckets[b] = node->next;
                free(node);
            }
        pthread_mutex_destroy(&counts->shards[i].lock);
    }
    free(counts);
}

static bool key_of(const struct weir_addr *client, uint8_t key[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    if (!weir_addr_bytes(client, key))
        return false;
    if (memcmp(key, mapped, sizeof(mapped)))
        memset(key + 8, 0, 8);
    return true;
}

/* Keyed, so that a client cannot choose its bucket. */
static uint64_t hash_of(const struct weir_client_counts *counts, const uint8_t key[16])
{
    uint64_t words[2], h;

    memcpy(words, key, 16);
    h = (words[0] ^ counts->seed[0]) * 0x9e3779b97f4a7c15ull;
    h = (h ^ h >> 32 ^ words[1] ^ counts->seed[1]) * 0xbf58476d1ce4e5b9ull;
    return h ^ h >> 29;
}

static struct node **find(struct shard *shard, uint64_t hash, const uint8_t key[16])
{
    struct node **at = &shard->buckets[hash / SHARDS % BUCKETS];

    while (*at && memcmp((*at)->key, key, 16))
        at = &(*at)->next;
    return at;
}

bool weir_client_count_add(struct weir_client_counts *counts, const struct weir_addr *client,
                           uint64_t max)
{
    uint8_t key[16];
    struct shard *shard;
    struct node **at;
    uint64_t hash;
    bool fits = true;

    if (!key_of(client, key))
        return true;
    hash = hash_of(counts, key);
    shard = &counts->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->lock);
    at = find(shard, hash, key);
    if (!*at && (*at = calloc(1, sizeof(**at))))
        memcpy((*at)->key, key, 16);
    if (*at) {
        fits = (*at)->count < max;
        (*at)->count += fits;
    }
    pthread_mutex_unlock(&shard->lock);
    return fits;
}

void weir_client_count_remove(struct weir_client_counts *counts, const struct weir_addr *client)
{
    uint8_t key[16];
    struct shard *shard;
    struct node **at, *node;
    uint64_t hash;

    if (!key_of(client, key))
        return;
    hash = hash_of(counts, key);
    shard = &counts->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->lock);
    at = find(shard, hash, key);
    node = *at;
    if (node && --node->count == 0) {
        *at = node->next;
        free(node);
    }
    pthread_mutex_unlock(&shard->lock);
}

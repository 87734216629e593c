#include "core/order.h"

#include <stdbool.h>

static bool placed(const size_t *order, size_t count, size_t node) {
    for (size_t i = 0; i < count; i++)
        if (order[i] == node)
            return true;
    return false;
}

// The first thing that `node` comes after and that is not placed yet, or n.
static size_t missing(const struct order_node *node, const size_t *order, size_t count, size_t n) {
    for (size_t i = 0; i < node->nafter; i++)
        if (!placed(order, count, node->after[i]))
            return node->after[i];
    return n;
}

// Nothing can be placed any more, so who follows what is missing comes back to where it was.
static size_t find_cycle(const struct order_node *nodes, size_t n, size_t count, size_t *order) {
    size_t at = 0, length = 0;
    while (placed(order, count, at))
        at++;
    for (size_t i = 0; i < n; i++)
        at = missing(&nodes[at], order, count, n);
    size_t first = at, cycle_at = count; // now surely on a cycle
    do {
        order[cycle_at + length++] = at;
        at = missing(&nodes[at], order, count, n);
    } while (at != first);
    for (size_t i = 0; i < length; i++)
        order[i] = order[cycle_at + i];
    return length;
}

size_t order_sort(const struct order_node *nodes, size_t n, size_t *ret_order) {
    for (size_t count = 0; count < n;) {
        size_t i = 0;
        while (i < n &&
               (placed(ret_order, count, i) || missing(&nodes[i], ret_order, count, n) < n))
            i++;
        if (i == n)
            return find_cycle(nodes, n, count, ret_order);
        ret_order[count++] = i;
    }
    return 0;
}

void order_depth(const struct order_node *nodes, size_t n, const size_t *order, size_t *ret_depth) {
    for (size_t k = 0; k < n; k++) {
        const struct order_node *node = &nodes[order[k]];
        size_t depth = 0;
        for (size_t j = 0; j < node->nafter; j++)
            if (ret_depth[node->after[j]] + 1 > depth)
                depth = ret_depth[node->after[j]] + 1;
        ret_depth[order[k]] = depth;
    }
}

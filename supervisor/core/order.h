// The order of services that come after others. Pure.
#ifndef CORE_ORDER_H
#define CORE_ORDER_H

#include <stddef.h>

// What one node comes after: indices of nodes.
struct order_node {
    const size_t *after;
    size_t nafter;
};

// Sorts n nodes so that each stands after what it comes after, and otherwise as they were.
// ret_order has room for n. 0, or the number of nodes of a cycle, which ret_order then begins
// with, each coming after the next, and the last after the first.
size_t order_sort(const struct order_node *nodes, size_t n, size_t *ret_order);

// How many nodes stand below each: the length of the longest chain of what it comes after (0: it
// comes after nothing). `order` is that of order_sort.
void order_depth(const struct order_node *nodes, size_t n, const size_t *order, size_t *ret_depth);

#endif

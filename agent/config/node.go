package config

import (
	"fmt"
	"strings"
)

type nodeKind uint8

const (
	nullNode nodeKind = iota
	stringNode
	boolNode
	intNode
	floatNode
	listNode
	objectNode
)

func (k nodeKind) String() string {
	return [...]string{"null", "a string", "a boolean", "a whole number", "a number with a fraction", "a list", "an object"}[k]
}

// node is one value of a configuration source with the place it was written.
// It may hold a secret in clear: nodes live only as long as Load runs.
type node struct {
	kind nodeKind
	at   place

	str  string
	b    bool
	i    int64
	f    float64
	list []*node

	keys []string // of an object, in the order of first appearance
	obj  map[string]*node

	was    string // the key as it was written, where that is an older name
	json   bool   // a number of a JSON document
	blocks bool   // several HCL blocks of one name, or one block
}

// place is where a value was written.
type place struct {
	file string // a path, or the flag: "flag -node"
	line int    // 0 for a flag
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

func newObject(at place) *node {
	return &node{kind: objectNode, at: at, obj: map[string]*node{}}
}

// set puts v under key, replacing what was there.
func (n *node) set(key string, v *node) {
	if _, ok := n.obj[key]; !ok {
		n.keys = append(n.keys, key)
	}
	n.obj[key] = v
}

func (n *node) remove(key string) {
	if _, ok := n.obj[key]; !ok {
		return
	}
	delete(n.obj, key)
	for i, k := range n.keys {
		if k == key {
			n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
			return
		}
	}
}

// get walks a dotted path of object keys; nil when it is not set.
func (n *node) get(path string) *node {
	for part := range strings.SplitSeq(path, ".") {
		if n == nil || n.kind != objectNode {
			return nil
		}
		n = n.obj[part]
	}
	return n
}

// put sets a dotted path, making the objects on the way.
func (n *node) put(path string, v *node) {
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		child := n.obj[part]
		if child == nil || child.kind != objectNode {
			child = newObject(v.at)
			n.set(part, child)
		}
		n = child
	}
	n.set(parts[len(parts)-1], v)
}

// cut shortens text that comes from a file for use in a message.
func cut(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

package config

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// problems collects errors and warnings; neither ever holds a value.
type problems struct {
	errs     []error
	warnings []string
	warned   map[string]bool
	unread   bool // a source could not be read: what else is missing may be in it
}

// cannotRead is errorf for a source that could not be read.
func (p *problems) cannotRead(format string, args ...any) {
	p.unread = true
	p.errorf(format, args...)
}

func (p *problems) errorf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *problems) warnf(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// once warns about a key the first time it is seen.
func (p *problems) once(key, format string, args ...any) {
	if p.warned == nil {
		p.warned = map[string]bool{}
	}
	if !p.warned[key] {
		p.warned[key] = true
		p.warnf(format, args...)
	}
}

// check makes sure that every value of one source has a known key and the
// key's type. It gives keys their own spelling and drops what is null or
// mistyped, so that what remains can be merged and read without looking again.
func (p *problems) check(f *field, n *node, path string, silent bool) bool {
	if n.kind == nullNode {
		return false
	}
	if !silent && path != "" {
		switch {
		case f.gone != "":
			p.once(f.path, "%s: key %q %s", n.at, f.path, f.gone)
		case f.later:
			p.once(f.path, "%s: key %q is not supported yet and is ignored%s", n.at, f.path, laterNote(f, n))
			silent = true
		case f.quiet:
			silent = true
		}
	}
	wrong := func() bool {
		p.errorf("%s: key %q wants %s, not %s", n.at, path, f.kind.wants(), n.kind)
		return false
	}
	switch f.kind {
	case kindString, kindSecret:
		if n.kind != stringNode {
			return wrong()
		}
	case kindBool:
		if n.kind != boolNode {
			return wrong()
		}
	case kindInt:
		if n.kind == floatNode && n.json {
			if math.IsNaN(n.f) || math.Abs(n.f) > math.MaxInt32 {
				p.errorf("%s: key %q is out of range", n.at, path)
				return false
			}
			n.kind, n.i = intNode, int64(n.f) // as the family does: 8500.5 is 8500
		}
		if n.kind != intNode {
			return wrong()
		}
		if n.i > math.MaxInt32 || n.i < math.MinInt32 {
			p.errorf("%s: key %q is out of range", n.at, path)
			return false
		}
	case kindFloat:
		if n.kind != intNode && n.kind != floatNode {
			return wrong()
		}
	case kindDuration:
		if n.kind != stringNode {
			return wrong()
		}
		d, err := time.ParseDuration(n.str)
		if err != nil {
			p.errorf("%s: key %q wants %s", n.at, path, f.kind.wants())
			return false
		}
		if d < 0 {
			p.errorf("%s: key %q must not be negative", n.at, path)
			return false
		}
	case kindList:
		if n.kind != listNode {
			return wrong()
		}
		return p.checkStrings(n, path)
	case kindMap:
		return p.checkMap(f, n, path)
	case kindObject:
		return p.checkObject(f, n, path, silent)
	case kindObjects:
		if n.kind == objectNode && n.blocks { // one HCL block is a list of one
			*n = node{kind: listNode, at: n.at, list: []*node{{kind: objectNode, at: n.at, keys: n.keys, obj: n.obj}}}
		}
		if n.kind != listNode {
			return wrong()
		}
		for i, item := range n.list {
			p.checkObject(f, item, fmt.Sprintf("%s[%d]", path, i), silent)
		}
	}
	return true
}

// laterNote says what ignoring the key means where that is not harmless.
func laterNote(f *field, n *node) string {
	if f.path == "acl" && n.kind == objectNode {
		for _, k := range n.keys {
			if strings.EqualFold(k, "enabled") && n.obj[k].b {
				return ": access is NOT restricted by ACLs"
			}
		}
	}
	return ""
}

func (p *problems) checkStrings(n *node, path string) bool {
	ok := true
	kept := n.list[:0:0]
	for i, item := range n.list {
		switch item.kind {
		case stringNode:
			kept = append(kept, item)
		case nullNode:
		default:
			p.errorf("%s: key \"%s[%d]\" wants a string, not %s", item.at, path, i, item.kind)
			ok = false
		}
	}
	n.list = kept
	return ok
}

func (p *problems) checkMap(f *field, n *node, path string) bool {
	if n.kind == listNode && n.blocks {
		p.errorf("%s: key %q is written more than once in one file", n.at, path)
		return false
	}
	if n.kind != objectNode {
		p.errorf("%s: key %q wants %s, not %s", n.at, path, f.kind.wants(), n.kind)
		return false
	}
	for _, key := range append([]string(nil), n.keys...) {
		item := n.obj[key]
		if item.kind == stringNode {
			continue
		}
		if item.kind != nullNode {
			p.errorf("%s: key %q wants a string, not %s", item.at, path+"."+cut(key), item.kind)
		}
		n.remove(key)
	}
	return true
}

func (p *problems) checkObject(f *field, n *node, path string, silent bool) bool {
	if n.kind == listNode && n.blocks {
		p.errorf("%s: key %q is written more than once in one file", n.at, path)
		return false
	}
	if n.kind != objectNode {
		p.errorf("%s: key %q wants an object, not %s", n.at, path, n.kind)
		return false
	}
	prefix := path
	if prefix != "" {
		prefix += "."
	}
	keys, values := n.keys, n.obj
	n.keys, n.obj = nil, map[string]*node{}
	for _, key := range keys {
		value, name := values[key], strings.ToLower(key)
		child := f.children[name]
		if child == nil {
			p.unknown(f, value.at, prefix, key)
			continue
		}
		if p.check(child, value, prefix+name, silent) {
			n.set(name, value)
		}
	}
	return true
}

func (p *problems) unknown(parent *field, at place, prefix, key string) {
	if now, ok := gone[prefix+strings.ToLower(key)]; ok {
		if now == "" {
			p.errorf("%s: key %q was removed", at, prefix+key)
		} else {
			p.errorf("%s: key %q was removed; use %q", at, prefix+key, now)
		}
		return
	}
	hint := ""
	if near := nearest(parent, prefix, key); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	p.errorf("%s: unknown key %q%s", at, prefix+cut(key), hint)
}

// merge folds src into dst: scalars are replaced, lists appended, maps laid
// over each other by key, objects merged by these same rules.
func merge(f *field, dst, src *node) {
	for _, key := range src.keys {
		value := src.obj[key]
		child := f.children[key]
		old := dst.obj[key]
		if old == nil || child == nil {
			dst.set(key, clone(value))
			continue
		}
		switch child.kind {
		case kindList, kindObjects:
			old.list = append(old.list, value.list...)
			old.at = value.at
		case kindMap:
			for _, k := range value.keys {
				old.set(k, value.obj[k])
			}
			old.at = value.at
		case kindObject:
			merge(child, old, value)
		default:
			dst.set(key, value)
		}
	}
}

// clone copies what merge may change.
func clone(n *node) *node {
	c := *n
	c.list = append([]*node(nil), n.list...)
	if n.obj != nil {
		c.obj = make(map[string]*node, len(n.obj))
		for k, v := range n.obj {
			c.obj[k] = clone(v)
		}
		c.keys = append([]string(nil), n.keys...)
	}
	return &c
}

// singular turns service and check into one more element of services and
// checks, and start_join into retry_join, within one source.
func (p *problems) singular(n *node) {
	for one, many := range map[string]string{"service": "services", "check": "checks"} {
		if v := n.obj[one]; v != nil {
			p.appendTo(n, many, v.at, []*node{v})
			n.remove(one)
		}
	}
	for _, old := range []string{"start_join", "start_join_wan"} {
		if v := n.obj[old]; v != nil {
			now := strings.Replace(old, "start", "retry", 1)
			p.once(old, "%s: key %q is deprecated; its addresses are added to %q", v.at, old, now)
			p.appendTo(n, now, v.at, v.list)
			n.remove(old)
		}
	}
}

func (p *problems) appendTo(n *node, key string, at place, items []*node) {
	list := n.obj[key]
	if list == nil {
		list = &node{kind: listNode, at: at}
		n.set(key, list)
	}
	list.list = append(list.list, items...)
}

// fillLegacyTLS moves the top-level TLS keys to the stanzas, where those do
// not say otherwise. verify_incoming covers RPC and HTTPS: a false
// verify_incoming_rpc beside it does not take the check away.
func (p *problems) fillLegacyTLS(n *node) {
	all := n.get("verify_incoming")
	for _, l := range legacyTLS {
		v := n.obj[l.old]
		if v == nil {
			continue
		}
		n.remove(l.old)
		narrow := l.old == "verify_incoming_rpc" || l.old == "verify_incoming_https"
		if narrow && !v.b && all != nil && all.b {
			p.warnf("%s: key %q does not turn off what \"verify_incoming\" asks for; use %q", v.at, l.old, l.now)
			continue
		}
		if now := n.get(l.now); now != nil {
			if now.kind == boolNode && now.b != v.b {
				p.warnf("%s: key %q is overruled by %q at %s", v.at, l.old, l.now, now.at)
			}
			continue
		}
		if l.old == "tls_min_version" {
			if name, ok := map[string]string{"tls10": "TLSv1_0", "tls11": "TLSv1_1", "tls12": "TLSv1_2", "tls13": "TLSv1_3"}[v.str]; ok {
				v = &node{kind: stringNode, at: v.at, str: name}
			}
		}
		v = clone(v)
		v.was = l.old
		n.put(l.now, v)
	}
	n.remove("tls_prefer_server_cipher_suites")
}

package config

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
)

// value is one key as it was set. Secrets stay behind Secret.
type value struct {
	text   any // string, bool, int64, float64, []string or map[string]string
	secret Secret
	digest [sha256.Size]byte // of what text does not show all of
	reload bool
	hidden bool
}

// shown is what may be printed.
func (v value) shown() any {
	if v.hidden {
		return "hidden"
	}
	switch t := v.text.(type) {
	case []string:
		return slices.Clone(t)
	case map[string]string:
		return maps.Clone(t)
	}
	return v.text
}

func (v value) equal(o value) bool {
	if v.hidden || o.hidden {
		return v.hidden == o.hidden && v.secret.Equal(o.secret)
	}
	if v.digest != o.digest {
		return false
	}
	switch t := v.text.(type) {
	case []string:
		u, ok := o.text.([]string)
		return ok && slices.Equal(t, u)
	case map[string]string:
		u, ok := o.text.(map[string]string)
		return ok && maps.Equal(t, u)
	}
	switch o.text.(type) {
	case []string, map[string]string:
		return false
	}
	return v.text == o.text
}

// flatten lists what is set by key, for DebugMap and Diff. Keys that are not
// acted upon are left out.
func (b *builder) flatten() map[string]value {
	out := map[string]value{}
	var walk func(f *field, n *node)
	walk = func(f *field, n *node) {
		for _, key := range n.keys {
			child, item := f.children[key], n.obj[key]
			if child == nil || child.later || child.quiet {
				continue
			}
			v := value{reload: child.reload}
			switch child.kind {
			case kindObject:
				walk(child, item)
				continue
			case kindObjects:
				v.text, v.digest = names(item), digest(child, item)
			case kindSecret:
				v.hidden, v.secret = true, NewSecret([]byte(item.str))
			case kindBool:
				v.text = item.b
			case kindInt:
				v.text = item.i
			case kindFloat:
				v.text = item.f
			case kindList:
				v.text = b.list(child.path)
			case kindMap:
				v.text = b.dict(child.path)
			default:
				v.text = item.str
			}
			out[child.path] = v
		}
	}
	walk(schema(), b.tree)
	for key, text := range b.resolved {
		out[key] = value{text: text, reload: out[key].reload}
	}
	return out
}

// names are what the objects of a list are called; the rest of them may be
// secret.
func names(list *node) []string {
	out := []string{}
	for _, item := range list.list {
		name := ""
		for _, key := range []string{"name", "id", "type"} {
			if n := item.obj[key]; n != nil && name == "" {
				name = n.str
			}
		}
		out = append(out, name)
	}
	return out
}

func digest(f *field, list *node) [sha256.Size]byte {
	b, err := json.Marshal(list.raw(f))
	if err != nil {
		panic(err) // it is made of strings, numbers, maps and lists
	}
	return sha256.Sum256(b)
}

// Diff names the keys whose values differ between two loaded configurations:
// those that a reload applies and those that need a restart. It compares what
// was configured, so a certificate file with new contents under its old name
// is no difference: reload TLS material always.
func Diff(old, new *Config) (reloadable, restart []string) {
	for _, key := range slices.Sorted(maps.Keys(union(old.settings, new.settings))) {
		was, before := old.settings[key]
		is, after := new.settings[key]
		if before == after && was.equal(is) {
			continue
		}
		if !before && isOff(is) || !after && isOff(was) {
			continue
		}
		f := schema().lookup(key)
		if f != nil && f.reload {
			reloadable = append(reloadable, key)
		} else {
			restart = append(restart, key)
		}
	}
	return reloadable, restart
}

// isOff says whether a value means the same as not setting the key.
func isOff(v value) bool {
	switch t := v.text.(type) {
	case string:
		return t == "" && !v.hidden
	case []string:
		return len(t) == 0
	case map[string]string:
		return len(t) == 0
	}
	return false
}

func union(a, b map[string]value) map[string]bool {
	out := make(map[string]bool, len(a)+len(b))
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

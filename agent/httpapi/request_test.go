package httpapi

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	p, err := parseParams("a=1&a=2&b&c=&&d=x%20y%26+z&node-meta=k:v&node-meta=k2&node-meta=a:b:c&off=false&zero=0&bool=1")
	must(t, err)
	if p.get("a") != "1" || !slices.Equal(p.all("a"), []string{"1", "2"}) || !p.has("b") || !p.has("c") || p.has("e") || p.get("d") != "x y& z" {
		t.Errorf("%q", p)
	}
	if m := p.pairs("node-meta"); len(m) != 3 || m["k"] != "v" || m["k2"] != "" || m["a"] != "b:c" || p.pairs("none") != nil {
		t.Errorf("%v", m)
	}
	if !p.flag("b") || !p.flag("a") || p.flag("off") || p.flag("zero") || p.flag("none") {
		t.Error("flags")
	}
	for name, want := range map[string]bool{"b": true, "bool": true, "off": false, "none": false} {
		if got, err := p.boolean(name); err != nil || got != want {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if _, err := p.boolean("d"); err == nil {
		t.Error("a text is a boolean")
	}
	for _, bad := range []string{"%", "a=%zz", "%4", "a=1;b=2"} {
		if p, err := parseParams(bad); err == nil {
			t.Errorf("%q: %q", bad, p)
		}
	}
}

// Where net/url finds nothing wrong, both read the same, but for how many there
// may be.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "a", "a=b&a=c", "&&=&", "%zz", "a=%00+%2B", "a;b", "index=1&wait=5s&stale"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := parseParams(raw)
		want, wantErr := url.ParseQuery(raw)
		if strings.Count(raw, "&") >= maxParams {
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, net/url says %v", raw, err, wantErr)
		}
		if err != nil {
			return
		}
		n := 0
		for name, values := range want {
			n += len(values)
			if !slices.Equal(p.all(name), values) || p.get(name) != values[0] || !p.has(name) {
				t.Errorf("%q: %q is %q, want %q", raw, name, p.all(name), values)
			}
			p.flag(name)
			p.pairs(name)
		}
		if n != len(p) {
			t.Errorf("%q: %d parameters, want %d", raw, len(p), n)
		}
	})
}

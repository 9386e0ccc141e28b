// Package version says which Lictor this is. A release sets the variables with
// the linker; a build from a checkout takes revision and date from what the Go
// toolchain recorded of the repository.
package version

import (
	"runtime/debug"
	"sync"
)

// Set with -ldflags "-X lictor/version.Version=...". Read them through
// functions of this package where there is one: Revision and BuildDate may be
// empty here.
var (
	Version    = "0.1.0"
	Prerelease = "dev"
	Revision   = ""
	BuildDate  = "" // RFC 3339
)

// The versions of the family's protocol that agents speak.
const (
	ProtocolDefault = 2
	ProtocolMin     = 2
	ProtocolMax     = 3
)

// unknownDate is printed where nobody recorded when this was built.
const unknownDate = "1970-01-01T00:00:01Z"

// Info is everything known of this build.
type Info struct {
	Version    string
	Prerelease string
	Revision   string // "" where not known; ends in "-dirty" for a changed checkout
	BuildDate  string // RFC 3339
}

// Get returns what is known of this build.
func Get() Info { return get() }

var get = sync.OnceValue(func() Info {
	i := Info{Version: Version, Prerelease: Prerelease, Revision: Revision, BuildDate: BuildDate}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		bi = &debug.BuildInfo{}
	}
	return fill(i, bi.Settings)
})

// fill completes i from the toolchain's record. What the linker set wins.
func fill(i Info, settings []debug.BuildSetting) Info {
	var revision, date string
	dirty := false
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			date = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if i.Revision == "" && revision != "" {
		i.Revision = revision
		if dirty {
			i.Revision += "-dirty"
		}
	}
	if i.BuildDate == "" {
		i.BuildDate = date
	}
	if i.BuildDate == "" {
		i.BuildDate = unknownDate
	}
	return i
}

// String returns the version as people write it: "0.1.0" or "0.1.0-dev".
func String() string {
	if Prerelease == "" {
		return Version
	}
	return Version + "-" + Prerelease
}

// Tag is the build as gossip tags carry it: "<version><pre>:<revision>", of
// which peers read the first number.
func Tag() string {
	i := Get()
	tag := i.Version
	if i.Prerelease != "" {
		tag += "-" + i.Prerelease
	}
	if len(i.Revision) > 8 {
		return tag + ":" + i.Revision[:8]
	}
	return tag + ":" + i.Revision
}

package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	v, p := Version, Prerelease
	t.Cleanup(func() { Version, Prerelease = v, p })
	Version, Prerelease = "1.2.3", "beta1"
	if got := String(); got != "1.2.3-beta1" {
		t.Errorf("a prerelease prints as %q", got)
	}
	Prerelease = ""
	if got := String(); got != "1.2.3" {
		t.Errorf("a release prints as %q", got)
	}
}

func TestFill(t *testing.T) {
	recorded := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	}
	for name, c := range map[string]struct {
		have     Info
		settings []debug.BuildSetting
		want     Info
	}{
		"from the repository": {Info{}, recorded, Info{Revision: "abc-dirty", BuildDate: "2026-01-02T03:04:05Z"}},
		"the linker wins":     {Info{Revision: "r", BuildDate: "d"}, recorded, Info{Revision: "r", BuildDate: "d"}},
		"nothing recorded":    {Info{}, nil, Info{BuildDate: unknownDate}},
	} {
		if got := fill(c.have, c.settings); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFileBytes bounds one configuration file.
const maxFileBytes = 8 << 20

// env is what Load asks the machine for; tests answer themselves.
type env struct {
	hostname func() (string, error)
	addrs    func() ([]netip.Addr, error) // of the interfaces that are up
	maxFiles func() (uint64, bool)        // the limit on open files, if there is one
}

func realEnv() env {
	return env{hostname: os.Hostname, addrs: interfaceAddrs, maxFiles: maxOpenFiles}
}

func interfaceAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// Load reads the files that the flags name and makes one checked Config of
// everything. All problems are collected into one error, one line each, with
// file, line and key. No text ever holds the value of a secret.
func Load(f Flags) (*Config, error) { return load(f, realEnv()) }

// LoadPaths is Load for files and directories alone. format is "", "json" or "hcl".
func LoadPaths(paths []string, format string) (*Config, error) {
	return load(Flags{Paths: paths, Format: format}, realEnv())
}

func load(f Flags, e env) (*Config, error) {
	format := strings.ToLower(f.Format)
	if format != "" && format != "json" && format != "hcl" {
		return nil, fmt.Errorf("flag -config-format: %q is neither \"hcl\" nor \"json\"", cut(f.Format))
	}
	p := &problems{}
	root := newObject(place{file: "defaults"})
	p.fold(root, builtIn(defaultsHCL))
	if f.Dev {
		p.fold(root, builtIn(devHCL))
	}
	p.fold(root, f.tree(true))
	var files []string
	for _, path := range f.Paths {
		for _, src := range p.expand(path, format) {
			files = append(files, src.path)
			p.foldText(root, src.path, src.format, src.data)
		}
	}
	p.fold(root, f.tree(false))
	for i, text := range f.HCL {
		p.foldText(root, fmt.Sprintf("flag -hcl #%d", i+1), "hcl", []byte(text))
	}
	if p.unread {
		return nil, errors.Join(p.errs...) // "data_dir must be set" would only be noise
	}
	p.fillLegacyTLS(root)

	b := &builder{problems: p, tree: root, env: e, dev: f.Dev}
	errs, warnings := len(p.errs), len(p.warnings)
	c := b.build()
	slices.SortStableFunc(p.errs[errs:], func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	slices.Sort(p.warnings[warnings:])
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	c.RunTime.Files = files
	c.Warnings = p.warnings
	c.settings = b.flatten()
	return c, nil
}

// fold checks one source and merges it into root.
func (p *problems) fold(root, src *node) {
	p.checkObject(schema(), src, "", false)
	p.singular(src)
	merge(schema(), root, src)
}

func (p *problems) foldText(root *node, name, format string, data []byte) {
	if len(data) == 0 {
		return
	}
	parse := parseJSON
	if format == "hcl" {
		parse = parseHCL
	}
	src, err := parse(name, data)
	if err != nil {
		p.cannotRead("%w", err)
		return
	}
	p.fold(root, src)
}

type source struct {
	path, format string
	data         []byte
}

// expand reads a file, or the files of a directory in the order of their names.
func (p *problems) expand(path, format string) []source {
	info, err := os.Stat(path)
	if err != nil {
		p.cannotRead("open failed on %s: %w", path, reason(err))
		return nil
	}
	if !info.IsDir() {
		kind := cmp.Or(format, formatOf(path))
		if kind == "" {
			p.cannotRead("%s: the name must end in .json or .hcl, or -config-format must say what it is", path)
			return nil
		}
		return p.read(nil, path, kind)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		p.cannotRead("open failed on %s: %w", path, reason(err))
		return nil
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var out []source
	for _, entry := range entries {
		full := filepath.Join(path, entry.Name())
		info, err := os.Stat(full)
		if err != nil {
			p.cannotRead("open failed on %s: %w", full, reason(err))
			continue
		}
		if info.IsDir() {
			continue
		}
		kind := cmp.Or(format, formatOf(full))
		if kind == "" {
			p.warnf("%s: skipped, the name ends in neither .json nor .hcl", full)
			continue
		}
		out = p.read(out, full, kind)
	}
	return out
}

func (p *problems) read(out []source, path, format string) []source {
	file, err := os.Open(path)
	if err != nil {
		p.cannotRead("open failed on %s: %w", path, reason(err))
		return out
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	switch {
	case err != nil:
		p.cannotRead("read failed on %s: %w", path, reason(err))
		return out
	case len(data) > maxFileBytes:
		p.cannotRead("%s: larger than %d bytes", path, maxFileBytes)
		return out
	}
	return append(out, source{path, format, data})
}

// reason is the cause without the path, which the message has already.
func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func formatOf(path string) string {
	switch filepath.Ext(path) {
	case ".json":
		return "json"
	case ".hcl":
		return "hcl"
	}
	return ""
}

package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FileOptions are the log_file settings.
type FileOptions struct {
	Path     string        // a trailing separator means "lictor.log" in that folder; no extension means ".log"
	Duration time.Duration // rotate when the file is this old; 0 means never
	Bytes    int           // rotate before the file grows past this; 0 means never
	MaxFiles int           // rotated files kept besides the open one: 0 all, -1 none
}

// File is a log file that rotates itself: the old one is renamed to
// <base>-<unix nanoseconds><ext>. It is safe for concurrent use. New files are
// 0640, as the family's are.
type File struct {
	opts      FileOptions
	dir       string
	base, ext string

	mu      sync.Mutex // guards the fields below
	f       *os.File
	size    int
	created time.Time
}

// OpenFile opens the log file, appending to one that is there. The caller
// closes it.
func OpenFile(o FileOptions) (*File, error) {
	if strings.HasSuffix(o.Path, "/") || strings.HasSuffix(o.Path, string(filepath.Separator)) {
		o.Path = filepath.Join(o.Path, "lictor.log")
	}
	if filepath.Ext(o.Path) == "" {
		o.Path += ".log"
	}
	ext := filepath.Ext(o.Path)
	l := &File{
		opts: o,
		dir:  filepath.Dir(o.Path),
		base: strings.TrimSuffix(filepath.Base(o.Path), ext),
		ext:  ext,
	}
	if err := l.openLocked(); err != nil {
		return nil, fmt.Errorf("log_file: %w", err)
	}
	return l, nil
}

func (l *File) openLocked() error {
	if st, err := os.Lstat(l.opts.Path); err == nil && st.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symlink, which is not followed", l.opts.Path)
	}
	f, err := os.OpenFile(l.opts.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size, l.created = f, int(st.Size()), time.Now()
	return nil
}

// Write appends p, rotating first where the file is due. A rotation that fails
// leaves the old file in use, so that no line is lost.
func (l *File) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return 0, os.ErrClosed
	}
	var rotateErr error
	if l.dueLocked(len(p)) {
		rotateErr = l.rotateLocked()
	}
	n, err := l.f.Write(p)
	l.size += n
	return n, errors.Join(err, rotateErr)
}

func (l *File) dueLocked(next int) bool {
	if l.size == 0 {
		return false
	}
	return l.opts.Bytes > 0 && l.size+next > l.opts.Bytes ||
		l.opts.Duration > 0 && time.Since(l.created) >= l.opts.Duration
}

func (l *File) rotateLocked() error {
	old := filepath.Join(l.dir, l.base+"-"+strconv.FormatInt(time.Now().UnixNano(), 10)+l.ext)
	if err := os.Rename(l.opts.Path, old); err != nil {
		l.created = time.Now() // try again when it is next due, not on each line
		return err
	}
	was := l.f
	if err := l.openLocked(); err != nil {
		return err // l.f still is the renamed file, which is open
	}
	was.Close()
	return l.prune()
}

// prune removes rotated files over the number to keep, oldest first.
func (l *File) prune() error {
	if l.opts.MaxFiles == 0 {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(l.dir, l.base+"-*"+l.ext))
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		stamp := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), l.base+"-"), l.ext)
		_, err := strconv.ParseInt(stamp, 10, 64)
		return err != nil
	})
	slices.Sort(names) // the stamps have the same length until the year 2286
	for len(names) > max(l.opts.MaxFiles, 0) {
		if err := os.Remove(names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}

// Close closes the file. Later writes fail.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

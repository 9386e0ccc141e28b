package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/checks"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// maxKept bounds one file that is read back.
const maxKept = 4 << 20

// store is the data directory's part of the registry: a file for each service
// and check that came by the API, named for the hash of its id, and one for the
// last report to each TTL check. Its writes are under State.reg.
type store struct {
	services, checks, states string // directories
	log                      hclog.Logger
}

// keptService, keptCheck and keptState are the files.
type keptService struct {
	Token   string
	Service *wire.NodeService
	Source  string
}

type keptCheck struct {
	Check   *keptNames
	ChkType map[string]any
	Token   string
	Source  string
}

// keptNames is as much of the check, as it is in the catalog, as is read back.
type keptNames struct {
	CheckID, Name, Notes, ServiceID, Status string
}

type keptState struct {
	CheckID string
	Output  string
	Status  string
	Expires int64 // unix seconds
}

func openStore(dataDir string, log hclog.Logger) (*store, error) {
	f := &store{
		services: filepath.Join(dataDir, "services"),
		checks:   filepath.Join(dataDir, "checks"),
		states:   filepath.Join(dataDir, "checks", "state"),
		log:      log,
	}
	for _, dir := range []string{f.services, f.states} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("data_dir: %w", err)
		}
	}
	return f, nil
}

func fileName(dir, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(dir, hex.EncodeToString(sum[:]))
}

// register writes what came by the API, and removes what is a file's now or is
// to go: all of it or nothing.
func (f *store) register(svc *Service, defs []*checks.Definition, drop []string) error {
	var undo []func()
	fail := func(err error) error {
		for _, fn := range undo {
			fn()
		}
		return fmt.Errorf("keep a registration in the data directory: %w", err)
	}
	put := func(path string, v any) error {
		before, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			undo = append(undo, func() { _ = tlsutil.Replace(path, before, 0o600) })
		} else {
			undo = append(undo, func() { os.Remove(path) })
		}
		if v == nil {
			return remove(path)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return tlsutil.Replace(path, b, 0o600)
	}
	if svc != nil {
		var v any
		if svc.Source != checks.SourceLocal {
			v = keptService{svc.Token, &svc.NodeService, svc.Source}
		}
		if err := put(fileName(f.services, svc.ID), v); err != nil {
			return fail(err)
		}
	}
	for _, d := range defs {
		var v any
		if d.Source != checks.SourceLocal {
			v = keptCheck{&keptNames{d.ID, d.Name, d.Notes, d.ServiceID, d.Status}, d.Stored(), d.Token, d.Source}
		}
		if err := put(fileName(f.checks, d.ID), v); err != nil {
			return fail(err)
		}
	}
	for _, id := range drop {
		if err := errors.Join(put(fileName(f.checks, id), nil), put(fileName(f.states, id), nil)); err != nil {
			return fail(err)
		}
	}
	return nil
}

// removeService forgets a service and its checks. After an error the service's
// own file is still there.
func (f *store) removeService(id string, checkIDs []string) error {
	if err := remove(fileName(f.services, id)); err != nil {
		return err
	}
	if err := f.removeChecks(checkIDs); err != nil {
		f.log.Warn("a check of a removed service is still in the data directory", "error", err)
	}
	return nil
}

func (f *store) removeChecks(ids []string) error {
	var errs []error
	for _, id := range ids {
		errs = append(errs, remove(fileName(f.checks, id)), remove(fileName(f.states, id)))
	}
	return errors.Join(errs...)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *store) keepState(k keptState) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return tlsutil.Replace(fileName(f.states, k.CheckID), b, 0o600)
}

// state is the last report to a TTL check, while it counts.
func (f *store) state(id string) *keptState {
	path := fileName(f.states, id)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var k keptState
	if err := read(path, &k); err != nil || k.CheckID != id || !checks.ValidStatus(k.Status) {
		f.damaged(path, err)
		return nil
	}
	if !time.Now().Before(time.Unix(k.Expires, 0)) {
		return nil
	}
	return &k
}

// each reads the files of a directory into fresh values, and gives fn those that
// can be read. What fn does not like is reported and kept, too.
func each[T any](f *store, dir string, fn func(path string, v *T) error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.log.Error("kept registrations cannot be read", "dir", dir, "error", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") { // a write that a crash cut off
			continue
		}
		v := new(T)
		err := read(path, v)
		if err == nil {
			err = fn(path, v)
		}
		if err != nil {
			f.damaged(path, err)
		}
	}
}

func (f *store) damaged(path string, err error) {
	if err == nil {
		err = errors.New("it does not hold what its name says")
	}
	f.log.Error("a kept registration is left out, its file stays as it is; mend or remove it", "file", path, "error", err)
}

// read decodes one regular file. The error holds nothing of its contents.
func read(path string, v any) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxKept+1))
	if err != nil {
		return err
	}
	if len(b) > maxKept {
		return errors.New("too large")
	}
	if json.Unmarshal(b, v) != nil {
		return errors.New("not valid JSON of this kind")
	}
	return nil
}

// restore fills the registry: what files of the configuration say, and what was
// kept, in the order in which checks find their services. Where both have an id,
// the configuration counts and what was kept is forgotten.
func (s *State) restore(services []*Service, defs []*checks.Definition) error {
	s.reg.Lock()
	defer s.reg.Unlock()
	own, alone, errs := s.fromFiles(services, defs)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.files != nil {
		each(s.files, s.files.services, func(path string, k *keptService) error { return s.restoreService(own, path, k) })
	}
	if err := errors.Join(s.registerFiles(own, alone)...); err != nil {
		return err
	}
	if s.files != nil {
		each(s.files, s.files.checks, s.restoreCheck)
		s.restoreStates()
	}
	return nil
}

func (s *State) restoreService(own fileServices, path string, k *keptService) error {
	switch {
	case k.Service == nil || fileName(s.files.services, k.Service.ID) != path:
		return errors.New("it does not hold what its name says")
	case own[k.Service.ID] != nil:
		return nil // registerFiles removes it
	}
	svc := &Service{NodeService: *k.Service, Token: k.Token, Source: checks.SourceRemote}
	if err := svc.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyLocked(svc, nil, nil)
	return nil
}

func (s *State) restoreCheck(path string, k *keptCheck) error {
	if k.Check == nil || fileName(s.files.checks, k.Check.CheckID) != path {
		return errors.New("it does not hold what its name says")
	}
	d, err := checks.ParseStored(k.ChkType)
	if err != nil {
		return err
	}
	d.ID, d.Name, d.Notes, d.ServiceID = k.Check.CheckID, k.Check.Name, k.Check.Notes, k.Check.ServiceID
	d.Token, d.Source = k.Token, checks.SourceRemote
	if isMaintenance(d.ID) && d.Kind() == "" {
		d.Status = wire.HealthCritical
	} else if d, err = s.checkDefinition(d); err != nil {
		return err
	}
	if _, ok := s.serviceEntry(d.ServiceID); d.ServiceID != "" && !ok {
		return fmt.Errorf("its service is not registered")
	}
	e, err := s.newCheck(d, nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyLocked(nil, []*check{e}, nil)
	return nil
}

// restoreStates gives TTL checks the reports that still count.
func (s *State) restoreStates() {
	for _, id := range s.checkIDs(func(e *check) bool { return e.def.Kind() == checks.KindTTL }) {
		kept := s.files.state(id)
		if kept == nil {
			continue
		}
		s.mu.Lock()
		e, err := s.newCheck(s.checks[id].def, kept)
		if err == nil {
			s.checks[id] = e
			s.nameServiceLocked(e)
		}
		s.mu.Unlock()
	}
}

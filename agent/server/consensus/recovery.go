package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

const peersInfoText = `If a majority of the servers is lost for good, the others cannot elect a leader.
To recover, stop every server that is left, and write the same file peers.json
into this folder of each:

[
  {"id": "<node id>", "address": "<ip>:<RPC port>", "non_voter": false}
]

with one element for each server that is left. The node id is in the file node-id
of the data directory. Then start them. The file is read and deleted at the start.
Entries that were not yet committed when the others were lost become committed,
and what only the lost servers had is lost.
`

// recoverPeers takes over the servers that an operator wrote into peers.json.
func (st *storage) recoverPeers(rc *raft.Config, fsm raft.FSM, trans raft.Transport) error {
	if st.dir == "" {
		return nil
	}
	info := filepath.Join(st.dir, peersInfo)
	if _, err := os.Stat(info); errors.Is(err, os.ErrNotExist) {
		if err := writeFile(info, []byte(peersInfoText)); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	file := filepath.Join(st.dir, peersFile)
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	servers, err := raft.ReadConfigJSON(file)
	if err != nil {
		return fmt.Errorf("consensus: %s: %w", file, err)
	}
	self := false
	for _, s := range servers.Servers {
		self = self || s.ID == rc.LocalID
		if s.Address == trans.LocalAddr() && s.ID != rc.LocalID {
			return fmt.Errorf("consensus: %s: %s is the address of this server, whose id is %s and not %s", file, s.Address, rc.LocalID, s.ID)
		}
	}
	if !self {
		rc.Logger.Warn("this server is not in the file, and will not take part", "file", file, "id", rc.LocalID)
	}
	if err := raft.RecoverCluster(rc, fsm, st.logs, st.stable, st.snaps, trans, servers); err != nil {
		return fmt.Errorf("consensus: recover from %s: %w", file, err)
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("consensus: recovered from %s, which has to be deleted: %w", file, err)
	}
	rc.Logger.Info("the servers are now those of the file, which was deleted", "file", file, "servers", len(servers.Servers))
	return nil
}

// metadata is server_metadata.json.
type metadata struct {
	LastSeen int64 `json:"last_seen_unix"`
}

// checkAge refuses a server that was away for longer than limit: the others may
// have forgotten it, and its data says what was true then.
func checkAge(dataDir string, limit time.Duration) error {
	if dataDir == "" || limit <= 0 {
		return nil
	}
	file := filepath.Join(dataDir, metadataFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	var m metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("consensus: %s: %w; delete it if this server was not away for longer than server_rejoin_age_max", file, err)
	}
	if away := time.Since(time.Unix(m.LastSeen, 0)); away > limit {
		return fmt.Errorf("consensus: %w: it was last seen %s ago, and server_rejoin_age_max is %s (%s); move the data directory away so that it joins as a new server, or raise server_rejoin_age_max",
			ErrTooOld, away.Round(time.Second), limit, file)
	}
	return nil
}

func writeAge(dataDir string) error {
	if dataDir == "" {
		return nil
	}
	b, err := json.Marshal(metadata{LastSeen: time.Now().Unix()})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dataDir, metadataFile), b)
}

// ageEvery is how often a running server notes that it was seen.
const ageEvery = time.Hour

func (n *Node) noteAge() {
	tick := time.NewTicker(ageEvery)
	defer tick.Stop()
	for {
		if err := writeAge(n.cfg.DataDir); err != nil {
			n.log.Warn("could not note that this server was seen", "file", metadataFile, "error", err)
		}
		select {
		case <-n.done:
			return
		case <-tick.C:
		}
	}
}

package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"lictor/agent/answers"
	"lictor/rpc/wire"
)

const uiNodePath = "/v1/internal/ui/node/"

func (a *API) uiNodes(w http.ResponseWriter, r *request) error {
	return answer(a, w, r, plain, "Internal.NodeDump", a.ofDatacenter(r), "", func(b []byte, reply *wire.IndexedNodeDump) []byte {
		return answers.AppendList(b, reply.Dump, answers.AppendNodeInfo)
	})
}

func (a *API) uiNode(w http.ResponseWriter, r *request) error {
	req, err := r.ofNode(uiNodePath)
	if err != nil {
		return err
	}
	reply, err := ask[wire.IndexedNodeDump](a, w, r, plain, "Internal.NodeInfo", req)
	if err != nil {
		return err
	}
	if len(reply.Dump) == 0 {
		return errNothing
	}
	a.writeAppended(w, r, func(b []byte) []byte { return answers.AppendNodeInfo(b, reply.Dump[0]) })
	return nil
}

// serviceSummary is a service in the list of services of the UI.
type serviceSummary struct {
	Kind           string
	Name           string
	Datacenter     string
	Tags           []string
	Nodes          []string
	InstanceCount  int
	ChecksPassing  int
	ChecksWarning  int
	ChecksCritical int
}

func (a *API) uiServices(w http.ResponseWriter, r *request) error {
	req := &wire.ServiceDumpRequest{Datacenter: r.dc(), Source: a.near(r)}
	reply, err := ask[wire.IndexedCheckServiceNodes](a, w, r, plain, "Internal.ServiceDump", req)
	if err != nil {
		return err
	}
	a.writeJSON(w, r, summaries(reply.Nodes))
	return nil
}

// summaries counts the instances of each service and their checks, by name. A
// check of a node counts once for each service on it.
func summaries(instances []wire.CheckServiceNode) []*serviceSummary {
	byName := map[string]*serviceSummary{}
	seen := map[[3]string]bool{}
	first := func(service, what, name string) bool {
		id := [3]string{service, what, name}
		was := seen[id]
		seen[id] = true
		return !was
	}
	out := []*serviceSummary{}
	for _, i := range instances {
		if i.Service == nil || i.Node == nil {
			continue
		}
		s := byName[i.Service.Service]
		if s == nil {
			s = &serviceSummary{Kind: i.Service.Kind, Name: i.Service.Service, Datacenter: i.Node.Datacenter, Tags: []string{}}
			byName[s.Name] = s
			out = append(out, s)
		}
		s.InstanceCount++
		for _, t := range i.Service.Tags {
			if first(s.Name, "tag", t) {
				s.Tags = append(s.Tags, t)
			}
		}
		if first(s.Name, "node", i.Node.Node) {
			s.Nodes = append(s.Nodes, i.Node.Node)
		}
		for _, c := range i.Checks {
			if c.ServiceID == "" && !first(s.Name, "check of "+c.Node, c.CheckID) {
				continue
			}
			switch c.Status {
			case wire.HealthPassing:
				s.ChecksPassing++
			case wire.HealthWarning:
				s.ChecksWarning++
			case wire.HealthCritical:
				s.ChecksCritical++
			}
		}
	}
	for _, s := range out {
		slices.Sort(s.Tags)
		slices.Sort(s.Nodes)
	}
	slices.SortFunc(out, func(a, b *serviceSummary) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (a *API) uiCatalogOverview(w http.ResponseWriter, r *request) error {
	reply, err := ask[wire.CatalogOverview](a, w, r, plain, "Internal.CatalogOverview", a.ofDatacenter(r))
	if err != nil {
		return err
	}
	for _, list := range []*[]wire.HealthSummary{&reply.Nodes, &reply.Services, &reply.Checks} {
		if *list == nil {
			*list = []wire.HealthSummary{}
		}
	}
	a.writeJSON(w, r, struct{ Nodes, Services, Checks []wire.HealthSummary }{reply.Nodes, reply.Services, reply.Checks})
	return nil
}

package httpapi

import (
	"net/http"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/decode"
	"lictor/rpc/wire"
)

const coordinateNodePath = "/v1/coordinate/node/"

// coordinateShown is a node's coordinate as the API shows it.
type coordinateShown struct {
	Node    string
	Segment string
	Coord   *coordinate.Coordinate
}

// coordinatesOf are the coordinates of one segment, or all.
func coordinatesOf(r *request, list []*wire.Coordinate) []coordinateShown {
	out := make([]coordinateShown, 0, len(list))
	segment, one := r.q.get("segment"), r.q.has("segment")
	for _, c := range list {
		if !one || c.Segment == segment {
			out = append(out, coordinateShown{c.Node, c.Segment, c.Coord})
		}
	}
	return out
}

func (a *API) coordinatesOff() error {
	if a.cfg.Data.NoCoordinates {
		return failure(http.StatusUnauthorized, "Coordinate support disabled")
	}
	return nil
}

func (a *API) coordinateDatacenters(w http.ResponseWriter, r *request) error {
	if err := a.coordinatesOff(); err != nil {
		return err
	}
	var maps []wire.DatacenterMap
	if err := a.write(r, "Coordinate.ListDatacenters", &wire.Empty{}, &maps); err != nil {
		return err
	}
	type shown struct {
		Datacenter  string
		AreaID      string
		Coordinates []coordinateShown
	}
	out := make([]shown, 0, len(maps))
	for _, m := range maps {
		out = append(out, shown{m.Datacenter, m.AreaID, coordinatesOf(&request{}, m.Coordinates)})
	}
	a.writeJSON(w, r, out)
	return nil
}

func (a *API) coordinateNodes(w http.ResponseWriter, r *request) error {
	if err := a.coordinatesOff(); err != nil {
		return err
	}
	reply, err := ask[wire.IndexedCoordinates](a, w, r, plain, "Coordinate.ListNodes", a.ofDatacenter(r))
	if err != nil {
		return err
	}
	a.writeJSON(w, r, coordinatesOf(r, reply.Coordinates))
	return nil
}

func (a *API) coordinateNode(w http.ResponseWriter, r *request) error {
	if err := a.coordinatesOff(); err != nil {
		return err
	}
	req, err := r.ofNode(coordinateNodePath)
	if err != nil {
		return err
	}
	reply, err := ask[wire.IndexedCoordinates](a, w, r, plain, "Coordinate.Node", req)
	if err != nil {
		return err
	}
	list := coordinatesOf(r, reply.Coordinates)
	if len(list) == 0 {
		return errNothing
	}
	a.writeJSON(w, r, list)
	return nil
}

func (a *API) coordinateUpdate(w http.ResponseWriter, r *request) error {
	if err := a.coordinatesOff(); err != nil {
		return err
	}
	req := &wire.CoordinateUpdateRequest{Datacenter: r.dc()}
	err := decodeFields(w, r, decode.Fields{
		"node": &req.Node, "segment": &req.Segment, "datacenter": &req.Datacenter, "partition": decode.OnlyDefault,
		"coord": func(v any) error {
			req.Coord = &coordinate.Coordinate{}
			return object(coordinateFields(req.Coord))(v)
		},
	})
	switch {
	case err != nil:
		return err
	case req.Node == "":
		return failure(http.StatusBadRequest, "Missing node name")
	case req.Coord == nil:
		return failure(http.StatusBadRequest, "Missing coordinate")
	}
	req.Token = r.token()
	return empty(w, a.write(r, "Coordinate.Update", req, &wire.Empty{}))
}

func coordinateFields(c *coordinate.Coordinate) decode.Fields {
	return decode.Fields{
		"vec": floatsField(&c.Vec), "error": floatField(&c.Error), "adjustment": floatField(&c.Adjustment), "height": floatField(&c.Height),
	}
}

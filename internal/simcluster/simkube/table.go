package simkube

import (
	"fmt"
	"strings"
	"time"
)

// column is one of a table's columns.
type column struct {
	name     string
	kind     string // of JSON: string, integer
	priority int    // 0 is always shown, 1 with -o wide
	value    func(object) any
}

var (
	nameColumn = column{"Name", "string", 0, field("metadata", "name")}
	ageColumn  = column{"Age", "string", 0, age}
)

func field(path ...string) func(object) any {
	return func(o object) any {
		if v := at(o, path...); v != nil {
			return v
		}
		return "<none>"
	}
}

func constant(s string) func(object) any { return func(object) any { return s } }

func podReady(o object) any {
	ready, all := 0, list(o, "status", "containerStatuses")
	for _, c := range all {
		if at(c, "ready") == true {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(all))
}

func podRestarts(o object) any {
	n := 0
	for _, c := range list(o, "status", "containerStatuses") {
		n += number(at(c, "restartCount"))
	}
	return fmt.Sprint(n)
}

func deploymentReady(o object) any {
	return fmt.Sprintf("%d/%d", number(at(o, "status", "readyReplicas")), number(at(o, "spec", "replicas")))
}

func servicePorts(o object) any {
	var ports []string
	for _, p := range list(o, "spec", "ports") {
		ports = append(ports, fmt.Sprintf("%d/TCP", number(at(p, "port"))))
	}
	return strings.Join(ports, ",")
}

func dataCount(o object) any {
	data, _ := at(o, "data").(object)
	return len(data)
}

// age tells an object's age as kubectl does: two units at most.
func age(o object) any {
	created, err := time.Parse(time.RFC3339, str(o, "metadata", "creationTimestamp"))
	if err != nil {
		return "<unknown>"
	}
	switch d := max(time.Since(created), 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// form is the format in which a client wants objects.
type form int

const (
	asObject form = iota
	asTable
	asMetadata // PartialObjectMetadata
)

// formOf reads the Accept header: the first form known counts.
func formOf(accept string) (form, error) {
	if accept == "" {
		return asObject, nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch media = strings.TrimSpace(media); {
		case media != "application/json" && media != "*/*" && media != "application/*":
			continue
		case strings.Contains(params, "as=Table"):
			return asTable, nil
		case strings.Contains(params, "as=PartialObjectMetadata"):
			return asMetadata, nil
		case strings.Contains(params, "as="):
			continue
		default:
			return asObject, nil
		}
	}
	return asObject, &apiError{
		code: 406, reason: "NotAcceptable", message: "only the following media types are accepted: application/json",
	}
}

const metaV1 = "meta.k8s.io/v1"

// partial is an object with nothing but its metadata.
func partial(o object) object {
	return object{"kind": "PartialObjectMetadata", "apiVersion": metaV1, "metadata": o["metadata"]}
}

// table tells records as rows. include says what of the object goes with a
// row: Object, None, or by default its metadata.
func (r *resource) table(recs []*record, meta object, include string) object {
	rows := make([]any, 0, len(recs))
	for _, rec := range recs {
		rows = append(rows, r.row(rec.decode(), include))
	}
	return object{
		"kind": "Table", "apiVersion": metaV1, "metadata": meta,
		"columnDefinitions": r.columnDefinitions(), "rows": rows,
	}
}

func (r *resource) columnDefinitions() []any {
	defs := make([]any, 0, len(r.columns))
	for _, c := range r.columns {
		format := ""
		if c.name == "Name" {
			format = "name" // by which kubectl knows what -o name and the like are about
		}
		defs = append(defs, object{
			"name": c.name, "type": c.kind, "format": format, "description": c.name, "priority": c.priority,
		})
	}
	return defs
}

func (r *resource) row(o object, include string) object {
	cells := make([]any, 0, len(r.columns))
	for _, c := range r.columns {
		cells = append(cells, c.value(o))
	}
	row := object{"cells": cells}
	switch include {
	case "None":
	case "Object":
		row["object"] = o
	default:
		row["object"] = partial(o)
	}
	return row
}

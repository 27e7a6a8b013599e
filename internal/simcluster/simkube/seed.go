package simkube

import (
	"fmt"
	"net/http"
	"time"
)

// The pods that every stand-in has in the namespace "default". Their images
// do not matter; shell.go says what their containers can do.
const (
	// PodWeb answers HTTP on port 80.
	PodWeb = "web-0"
	// PodEcho echoes what it is sent on port 7.
	PodEcho = "echo-0"
	// PodTalker writes a line to its log every so often.
	PodTalker = "talker-0"
)

// annotationLogBytes makes a pod's log that many bytes long. It is made up
// while it is read.
const annotationLogBytes = "simkube/log-bytes"

// seed fills the stand-in.
func (s *Server) seed() {
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		s.mustCreate(namespaces, object{"metadata": object{"name": name}})
	}
	s.mustCreate(nodes, object{
		"metadata": object{"name": s.cfg.Name},
		"status": object{
			"nodeInfo":   object{"kubeletVersion": s.cfg.Version},
			"conditions": []any{object{"type": "Ready", "status": "True"}},
		},
	})
	for _, name := range []string{PodWeb, PodEcho, PodTalker} {
		s.AddPod("default", name, nil)
	}
	s.mustCreate(services, object{
		"metadata": object{"name": "kubernetes", "namespace": "default"},
		"spec":     object{"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": []any{object{"name": "https", "port": 443}}},
	})
	if s.cfg.Pods > 0 {
		s.mustCreate(namespaces, object{"metadata": object{"name": "bulk"}})
	}
	for i := range s.cfg.Pods {
		s.AddPod("bulk", fmt.Sprintf("pod-%05d", i), map[string]string{"app": "bulk"})
	}
}

// mustCreate stores an object that is known to be good.
func (s *Server) mustCreate(res *resource, o object) {
	err := s.complete(res, o)
	if err == nil {
		_, err = s.store.create(res, o)
	}
	if err != nil {
		panic(err) // a mistake of the caller's
	}
}

// AddPod makes a running pod with one container, "main". It panics if there is
// one of that name already.
func (s *Server) AddPod(namespace, name string, labels map[string]string) {
	all := object{"app": name}
	for k, v := range labels {
		all[k] = v
	}
	s.mustCreate(pods, object{
		"metadata": object{"name": name, "namespace": namespace, "labels": all},
		"spec":     object{"containers": []any{object{"name": "main", "image": "simkube/main:1"}}},
	})
}

// AddLogPod makes a pod whose log is size bytes long.
func (s *Server) AddLogPod(namespace, name string, size int64) {
	s.mustCreate(pods, object{
		"metadata": object{
			"name": name, "namespace": namespace, "annotations": object{annotationLogBytes: fmt.Sprint(size)},
		},
		"spec": object{"containers": []any{object{"name": "main", "image": "simkube/main:1"}}},
	})
}

// SetLabel changes a label of a pod, for watches to see.
func (s *Server) SetLabel(namespace, pod, label, value string) error {
	_, err := s.store.update(pods, key{namespace, pod}, func(o object) (object, error) {
		meta := metaOf(o)
		labels, ok := meta["labels"].(object)
		if !ok {
			labels = object{}
			meta["labels"] = labels
		}
		labels[label] = value
		return o, nil
	})
	return err
}

// RemovePod deletes a pod.
func (s *Server) RemovePod(namespace, pod string) error {
	k := key{namespace, pod}
	if _, err := s.store.remove(pods, k); err != nil {
		return err
	}
	s.removed(pods, k)
	return nil
}

// complete gives an object what a real cluster's defaults and controllers
// would: whatever is wished for is so at once.
func (s *Server) complete(res *resource, o object) error {
	name := str(o, "metadata", "name")
	switch res {
	case namespaces:
		o["status"] = object{"phase": "Active"}
	case services:
		spec, _ := o["spec"].(object)
		if spec == nil || len(list(o, "spec", "ports")) == 0 {
			return invalid(res, name, "spec.ports")
		}
		fill(spec, object{"type": "ClusterIP", "clusterIP": "10.96.0.2"})
	case pods:
		return s.completePod(o, name)
	case deployments:
		return completeDeployment(o, name)
	}
	return nil
}

// fill sets what is not set.
func fill(o, defaults object) {
	for k, v := range defaults {
		if _, ok := o[k]; !ok {
			o[k] = v
		}
	}
}

func (s *Server) completePod(o object, name string) error {
	containers := list(o, "spec", "containers")
	if len(containers) == 0 {
		return invalid(pods, name, "spec.containers")
	}
	spec, _ := o["spec"].(object)
	fill(spec, object{"nodeName": s.cfg.Name, "restartPolicy": "Always"})
	if str(o, "status", "phase") != "" {
		return nil
	}
	now := time.Now().UTC().Format(time.RFC3339)
	var statuses []any
	for _, c := range containers {
		statuses = append(statuses, object{
			"name": str(c, "name"), "image": str(c, "image"), "imageID": "", "ready": true, "started": true, "restartCount": 0,
			"state": object{"running": object{"startedAt": now}},
		})
	}
	o["status"] = object{
		"phase": "Running", "podIP": "10.244.0.7", "hostIP": "127.0.0.1", "startTime": now, "containerStatuses": statuses,
		"conditions": []any{object{"type": "Ready", "status": "True"}, object{"type": "Initialized", "status": "True"}},
	}
	return nil
}

// completeDeployment reports a deployment as done.
func completeDeployment(o object, name string) error {
	spec, _ := o["spec"].(object)
	if spec == nil || len(list(spec, "template", "spec", "containers")) == 0 {
		return invalid(deployments, name, "spec.template.spec.containers")
	}
	fill(spec, object{"replicas": 1.0, "progressDeadlineSeconds": 600.0})
	n := number(spec["replicas"])
	o["status"] = object{
		"observedGeneration": 1 << 30, // whatever it will be, it has been seen
		"replicas":           n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n,
		"conditions": []any{object{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}},
	}
	return nil
}

// serveScale answers for the number of replicas alone.
func (s *Server) serveScale(w http.ResponseWriter, r *http.Request, t target, rec *record) error {
	if r.Method != http.MethodGet {
		v, _, err := body(r)
		if err != nil {
			return err
		}
		p, ok := v.(object)
		if !ok {
			return badRequest("a Scale is an object")
		}
		rec, err = s.change(r, target{gv: t.gv, res: t.res, namespace: t.namespace, name: t.name}, func(o object) (object, error) {
			scale := merge(scaleOf(o), p)
			metaOf(o)["resourceVersion"] = str(scale, "metadata", "resourceVersion")
			spec, _ := o["spec"].(object)
			spec["replicas"] = float64(number(at(scale, "spec", "replicas")))
			return o, nil
		})
		if err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, scaleOf(rec.decode()))
	return nil
}

func scaleOf(o object) object {
	meta := metaOf(o)
	return object{
		"kind": "Scale", "apiVersion": "autoscaling/v1",
		"metadata": object{
			"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
			"resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
		},
		"spec":   object{"replicas": at(o, "spec", "replicas")},
		"status": object{"replicas": at(o, "status", "replicas")},
	}
}

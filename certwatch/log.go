package certwatch

// logChanges writes a line for each profile and home that is no longer as it
// was.
func (w *Watcher) logChanges(old, view *View) {
	type key struct{ home, name string }
	before := map[key]*Profile{}
	for _, p := range old.Profiles {
		before[key{p.Home, p.Name}] = p
	}
	for _, p := range view.Profiles {
		k := key{p.Home, p.Name}
		was := before[k]
		delete(before, k)
		if was != p {
			w.logProfile(was, p)
		}
	}
	for k := range before {
		w.log.Info("profile removed", "home", k.home, "profile", k.name)
	}
	problems := map[string]string{}
	for _, p := range old.HomeProblems {
		problems[p.Home] = p.Err.Error()
	}
	for _, p := range view.HomeProblems {
		if problems[p.Home] != p.Err.Error() {
			w.log.Warn("home cannot be read", "home", p.Home, "err", p.Err)
		}
	}
}

// logProfile writes a line about what became of a profile. A nil was means
// that it is new.
func (w *Watcher) logProfile(was, p *Profile) {
	var session *Session
	var problem error
	if was != nil {
		session, problem = was.Session, was.Problem
	}
	log := w.log.With("home", p.Home, "profile", p.Name)
	switch {
	case p.Problem != nil && (problem == nil || problem.Error() != p.Problem.Error()):
		log.Warn("profile is broken", "err", p.Problem)
	case p.Session != nil && p.Session != session:
		log.Info("session changed", "session", *p.Session)
	case p.Session == nil && session != nil:
		log.Info("logged out")
	default:
		log.Debug("profile changed", "current", p.Current, "settling", p.Settling)
	}
}

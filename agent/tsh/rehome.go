package tsh

// Rehome is Restart with another TELEPORT_HOME for the new child. With leave the
// old one takes no connection any more: clients wait for the new one.
func (t *DBTunnel) Rehome(home string, leave bool) {
	t.mu.Lock()
	t.home = home
	if leave && t.current != nil {
		t.retireLocked(t.current)
		t.current = nil
		t.enterLocked(StateStarting)
	}
	t.mu.Unlock()
	t.kick()
}

// Home returns the TELEPORT_HOME of the child that takes connections; false
// means that none does.
func (t *DBTunnel) Home() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		return "", false
	}
	return t.current.home, true
}

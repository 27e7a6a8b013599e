package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/internal/wake"
)

// maxWrongCodes is how many wrong codes in a row end the asking.
const maxWrongCodes = 3

// CodeNeed is a tunnel that takes a one-time code, or the PIN of a security key:
// its cluster asks for one for each session. Its funcs may be called from any
// goroutine.
type CodeNeed struct {
	Profile *certwatch.Profile
	Tunnel  string
	Of      any // tells the tunnel from the one of its name that it took the place of
	PIN     bool
	Held    func() bool // a client waits for it, here or in tsh
	Met     func() bool // it has what it needs: another tunnel's code served it too
	// Answer fetches the tunnel's cert with a code. Its error matches
	// cluster.ErrWrongCode or ErrUsedCode when the code is at fault.
	Answer func(ctx context.Context, code string) error
}

func (n CodeNeed) key() Key { return codesKey(n.Profile) }

func codesKey(p *certwatch.Profile) Key { return Key{Home: p.Home, Proxy: p.ProxyAddr, Codes: true} }

// codes are the tunnels that take a one-time code now.
type codes struct {
	changed wake.Broadcast // a need has come or gone, or a tunnel found that it has none

	mu    sync.Mutex // guards everything below
	needs []CodeNeed // in the order in which they came
	seeds map[Key]*seedUse
	// doubted are the stored secrets, passwords too, that were refused or may have been:
	// a few more times, and the account would be locked. None is used until a login shows
	// that it is right, or another is stored.
	doubted map[secrets.Key]bool
}

// seedUse is what is known of a stored seed, beside the seed.
type seedUse struct {
	last   string // the code that was used last: each is good once, for a login or a cert
	stored int    // how often one was stored in place of the one before
	runs   bool   // an unattended run answers with it
	missed bool   // a need has come that the run may not have seen
}

func seedKey(p *certwatch.Profile) secrets.Key {
	return secrets.Key{Proxy: p.ProxyAddr, User: p.User, Kind: secrets.TOTP}
}

// doubt has a stored secret not used, or used again.
func (c *codes) doubt(key secrets.Key, doubted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubtLocked(key, doubted)
}

func (c *codes) doubtLocked(key secrets.Key, doubted bool) {
	if c.doubted == nil {
		c.doubted = make(map[secrets.Key]bool)
	}
	c.doubted[key] = doubted
}

// doubts reports whether a stored secret is not to be used.
func (c *codes) doubts(key secrets.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubted[key]
}

// mayUse reports whether a secret is stored and not doubted.
func (ls *Logins) mayUse(key secrets.Key) bool {
	return !ls.codes.doubts(key) && slices.Contains(ls.cfg.Memory.Stored(key.Proxy, key.User), string(key.Kind))
}

// Need notes that a tunnel takes a code, in place of what was noted for it
// before. Where the seed is stored, it is answered at once; else people are
// asked when they log in.
func (ls *Logins) Need(n CodeNeed) {
	ls.codes.mu.Lock()
	i := slices.IndexFunc(ls.codes.needs, func(o CodeNeed) bool { return o.Tunnel == n.Tunnel && o.Of == n.Of })
	if i >= 0 {
		ls.codes.needs[i] = n
	} else {
		ls.codes.needs = append(ls.codes.needs, n)
	}
	ls.codes.mu.Unlock()
	ls.codes.changed.Wake()
	if !n.PIN {
		ls.answerStored(n.Profile)
	}
}

// answerStored has the stored seed, where there is one that was not refused, answer what
// the tunnels of a profile take.
func (ls *Logins) answerStored(p *certwatch.Profile) {
	ls.codes.mu.Lock()
	use := ls.codes.seedLocked(codesKey(p))
	use.missed = true
	start := !ls.codes.doubted[seedKey(p)] && !use.runs && slices.Contains(ls.cfg.Memory.Stored(p.ProxyAddr, p.User), string(secrets.TOTP))
	use.runs = use.runs || start
	ls.codes.mu.Unlock()
	if start {
		ls.underway.start(func() { ls.answerUnattended(p) })
	}
}

// seedStored notes that a seed was stored, in place of the one that may have been
// refused, or that the stored one is right. Tunnels with the login's session may have
// taken a code before it was.
func (ls *Logins) seedStored(p *certwatch.Profile) {
	ls.codes.mu.Lock()
	use := ls.codes.seedLocked(codesKey(p))
	use.stored++
	ls.codes.doubtLocked(seedKey(p), false)
	ls.codes.mu.Unlock()
	ls.codes.changed.Wake() // people may be asked for what it answers
	ls.answerStored(p)
}

// storedTimes returns how often a seed was stored.
func (c *codes) storedTimes(key Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seedLocked(key).stored
}

// NeedGone notes that a tunnel, of those of its name this one, takes no code.
func (ls *Logins) NeedGone(tunnel string, of any) {
	ls.codes.mu.Lock()
	ls.codes.needs = slices.DeleteFunc(ls.codes.needs, func(n CodeNeed) bool { return n.Tunnel == tunnel && n.Of == of })
	ls.codes.mu.Unlock()
	ls.codes.changed.Wake()
}

func (c *codes) seedLocked(key Key) *seedUse {
	if c.seeds == nil {
		c.seeds = make(map[Key]*seedUse)
	}
	if c.seeds[key] == nil {
		c.seeds[key] = new(seedUse)
	}
	return c.seeds[key]
}

// of returns the tunnels of key that lack a code, those with clients first.
func (c *codes) of(key Key) (needs []CodeNeed, held int) {
	c.mu.Lock()
	all := slices.Clone(c.needs)
	c.mu.Unlock()
	var others []CodeNeed
	for _, n := range all {
		switch {
		case n.key() != key || n.Met():
		case n.Held():
			needs = append(needs, n)
		default:
			others = append(others, n)
		}
	}
	return append(needs, others...), len(needs)
}

// lacks reports whether the tunnel still lacks its code.
func (c *codes) lacks(n CodeNeed) bool {
	c.mu.Lock()
	known := slices.ContainsFunc(c.needs, func(o CodeNeed) bool { return o.Tunnel == n.Tunnel && o.Of == n.Of && o.Profile == n.Profile })
	c.mu.Unlock()
	return known && !n.Met()
}

// askCodes asks, as one more who takes part, for the codes of the tunnels at a
// proxy whose clients wait, or of all where none has one. It returns false when
// no tunnel needs a code.
func (ls *Logins) askCodes(ctx context.Context, target Target, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) (bool, error) {
	key := target.Key()
	key.Codes = true
	if needs, _ := ls.codes.of(key); len(needs) == 0 && ls.underway.of(key) == nil {
		return false, nil
	}
	l := ls.joinCodes(key)
	ls.cfg.Publish()
	return true, l.Follow(ctx, answers, show)
}

// codesWait is how long after a login it may take until it is known whether
// clients that were held for it wait for a code now. Only a cluster that is far away or
// busy takes that long: a client that is served, or fails, ends the wait.
const codesWait = 10 * time.Second

// codesOfHeld goes on, after a login, with the codes that the clients need that
// were held for it.
func (ls *Logins) codesOfHeld(ctx context.Context, target Target, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	key := target.Key()
	key.Codes = true
	held := func() int {
		_, n := ls.codes.of(key)
		return n
	}
	ls.codes.changed.Until(ctx, codesWait, func() bool { return held() > 0 || !ls.heldAt(target.Proxy) })
	if held() == 0 {
		return nil
	}
	_, err := ls.askCodes(ctx, target, answers, show)
	return err
}

func (ls *Logins) joinCodes(key Key) *Login {
	moved := func() {
		ls.cfg.Sessions.Moved.Wake()
		ls.cfg.OnChange()
	}
	l := ls.underway.join(ls.ctx, key, func(ctx context.Context, l *Login) error { return ls.runCodes(ctx, key, l) }, moved)
	moved()
	return l
}

// answerUnattended answers with the stored seed as long as that serves. What it
// cannot answer is left to people.
func (ls *Logins) answerUnattended(p *certwatch.Profile) {
	key := codesKey(p)
	var err error
	for goes := true; goes; {
		ls.codes.mu.Lock()
		use := ls.codes.seedLocked(key)
		use.missed = false
		stored := use.stored
		ls.codes.mu.Unlock()
		needs, _ := ls.codes.of(key)
		needed := slices.ContainsFunc(needs, func(n CodeNeed) bool { return !n.PIN })
		if err = nil; needed {
			err = ls.joinCodes(key).Follow(ls.ctx, nil, func(ev ipc.LoginEvent) error {
				if ev.Kind == state.LoginOTP || ev.Kind == state.LoginPIN {
					return errNeedsPerson
				}
				return nil
			})
		}
		ls.codes.mu.Lock()
		// A run that ends does not see what comes then.
		goes = ls.ctx.Err() == nil && (err == nil && (needed || use.missed) || use.stored != stored)
		use.runs = goes
		ls.codes.mu.Unlock()
	}
	if err != nil && ls.ctx.Err() == nil {
		ls.log.Info("one-time codes not answered unattended", "profile", p.ProxyAddr, "err", err)
	}
	ls.cfg.OnChange()
}

// errNeedsPerson ends an unattended run that asks for what is not stored.
var errNeedsPerson = errors.New("it asks for a code that only you know")

// errWrongCodes ends a run after too many wrong codes.
var errWrongCodes = fmt.Errorf("%w, %d times in a row", cluster.ErrWrongCode, maxWrongCodes)

// runCodes gets codes and has the tunnels of key fetch their certs with them,
// one for each cert. Without a stored seed, where clients wait, only the tunnels
// they wait for ask.
func (ls *Logins) runCodes(ctx context.Context, key Key, l *Login) error {
	_, held := ls.codes.of(key)
	onlyHeld, wrong, asked := held > 0, 0, 0
	for {
		needs, held := ls.codes.of(key)
		if len(needs) == 0 {
			return nil
		}
		times := ls.codes.storedTimes(key)
		n, seed, stored := ls.nextNeed(ctx, needs)
		if !stored && onlyHeld && held == 0 {
			return nil
		}
		var code string
		var err error
		if stored {
			if code, err = ls.nextCode(ctx, key, seed); err == nil {
				// A new session may have come while the code was waited for.
				needs, _ = ls.codes.of(key)
				i := slices.IndexFunc(needs, func(o CodeNeed) bool { return !o.PIN && o.Profile.User == n.Profile.User })
				if i < 0 {
					continue
				}
				n = needs[i]
			}
		} else {
			code, err = ls.typedCode(ctx, n, asked, times, l)
			if !n.PIN {
				asked++
			}
		}
		if err == nil && code != "" {
			err = n.Answer(ctx, code)
		}
		switch {
		case err == nil:
			wrong = 0
		case errors.Is(err, cluster.ErrUsedCode):
			l.inform(key.Proxy, "That code was used before: wait for the next one.")
		case errors.Is(err, cluster.ErrWrongCode) && stored:
			ls.refuseSeed(n, times)
			l.inform(key.Proxy, "The code from the stored seed was not accepted.")
		case errors.Is(err, cluster.ErrWrongCode):
			if wrong++; wrong >= maxWrongCodes {
				return errWrongCodes
			}
			l.inform(key.Proxy, "That code is wrong.")
		case ctx.Err() == nil && !ls.codes.lacks(n): // its session was replaced meanwhile
		default:
			return err
		}
	}
}

// nextNeed returns the first need that a stored seed answers, else the first.
func (ls *Logins) nextNeed(ctx context.Context, needs []CodeNeed) (n CodeNeed, seed secrets.Seed, stored bool) {
	var users []string // without a seed
	for _, n := range needs {
		if n.PIN || slices.Contains(users, n.Profile.User) {
			continue
		}
		if seed, stored := ls.storedSeed(ctx, n); stored {
			return n, seed, true
		}
		users = append(users, n.Profile.User)
	}
	return needs[0], secrets.Seed{}, false
}

// inform shows people a line.
func (l *Login) inform(proxy, text string) {
	l.prompt(proxy, tsh.Prompt{Kind: state.LoginInfo, Text: text}, nil)
}

// codeWait is how long a person may take to type a code or a PIN, as at a login.
const codeWait = 3 * time.Minute

// errNothingTyped ends a run whose prompt is not answered: while it asks, the snapshot
// says that a login is under way, and no other notice of the session is shown.
var errNothingTyped = errors.New("nothing was typed for three minutes")

// typedCode asks people for the code or PIN of a tunnel. An empty one means that the
// tunnel no longer needs it, or that a seed was stored meanwhile, which may answer it:
// times is what storedTimes was before the stored one was looked for.
func (ls *Logins) typedCode(ctx context.Context, n CodeNeed, asked, times int, l *Login) (string, error) {
	typed := make(chan string, 1)
	p := tsh.Prompt{Kind: state.LoginOTP, Text: fmt.Sprintf("One-time code for tunnel %s:", n.Tunnel)}
	switch {
	case n.PIN:
		p = tsh.Prompt{Kind: state.LoginPIN, Text: fmt.Sprintf("PIN of the security key, for tunnel %s:", n.Tunnel)}
	case asked > 0: // each is good for one cert
		p.Text = fmt.Sprintf("The next one-time code, for tunnel %s:", n.Tunnel)
	}
	p.Deadline = time.Now().Add(codeWait).Round(0)
	late := time.NewTimer(codeWait)
	defer late.Stop()
	l.prompt(n.Profile.ProxyAddr, p, func(code string) { typed <- code })
	ls.cfg.OnChange()
	for {
		changed := ls.codes.changed.Changed()
		if !ls.codes.lacks(n) || ls.codes.storedTimes(n.key()) != times {
			l.settle()
			return "", nil
		}
		select {
		case code := <-typed:
			if n.PIN {
				return code, nil
			}
			return strings.Join(strings.Fields(code), ""), nil // some apps show them in groups
		case <-changed:
		case <-late.C:
			return "", errNothingTyped
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// storedSeed returns the seed that answers n, unless it was refused.
func (ls *Logins) storedSeed(ctx context.Context, n CodeNeed) (secrets.Seed, bool) {
	if ls.cfg.Config().Policy.Allows(config.FeatureRemember) != nil {
		return secrets.Seed{}, false
	}
	p := n.Profile
	if !ls.mayUse(seedKey(p)) {
		return secrets.Seed{}, false
	}
	secret, err := ls.cfg.Keychain.Get(ctx, seedKey(p))
	if err != nil {
		ls.log.Warn("stored secret not read", "profile", p.ProxyAddr, "kind", secrets.TOTP, "err", err)
		return secrets.Seed{}, false
	}
	seed, err := secrets.ParseSeed(secret.Reveal())
	return seed, err == nil
}

// nextCode returns a code of the seed that was not used before, as soon as
// there is one.
func (ls *Logins) nextCode(ctx context.Context, key Key, seed secrets.Seed) (string, error) {
	for {
		code, err := seed.Fresh(ctx)
		if err != nil {
			return "", err
		}
		ls.codes.mu.Lock()
		use := ls.codes.seedLocked(key)
		fresh := use.last != code.Reveal()
		use.last = code.Reveal()
		ls.codes.mu.Unlock()
		if fresh {
			return code.Reveal(), nil
		}
		_, until, err := seed.CodeAt(time.Now())
		if err != nil {
			return "", err
		}
		if !wake.Sleep(ctx, time.Until(until)) {
			return "", ctx.Err()
		}
	}
}

// refuseSeed has the seed that answered n answer nothing further. It spares one that was
// stored meanwhile: times is what storedTimes was before the seed was read.
func (ls *Logins) refuseSeed(n CodeNeed, times int) {
	ls.codes.mu.Lock()
	defer ls.codes.mu.Unlock()
	if ls.codes.seedLocked(n.key()).stored == times {
		ls.codes.doubtLocked(seedKey(n.Profile), true)
	}
}

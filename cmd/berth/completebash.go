package main

import (
	"bytes"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// bashPackage is the line of cobra's script that needs the package
// bash-completion, and bashAlone what does the same without it: it joins what bash
// splits at "=" and ":" where no blank is between, and takes the word at the cursor.
const (
	bashPackage = `    _get_comp_words_by_ref "$@" cur prev words cword
`
	bashAlone = `    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local rest=${COMP_LINE:0:COMP_POINT} trimmed word last=-1 i
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        if ((i == COMP_CWORD)); then
            word=${trimmed}
        fi
        if ((i > 0)) && [[ ${trimmed} == "${rest}" && ( ${word} == [=:]* || ${words[last]} == *[=:] ) ]]; then
            words[last]+=${word}
        else
            last=$((last + 1))
            words[last]=${word}
        fi
        rest=${trimmed#"${word}"}
    done
    cword=${last}
    cur=${words[last]}
    prev=${words[last > 0 ? last - 1 : 0]}
`
)

// bashCompletion writes the completion script of bash, which needs nothing but
// bash.
func bashCompletion(root *cobra.Command, w io.Writer) error {
	var b bytes.Buffer
	if err := root.GenBashCompletionV2(&b, true); err != nil {
		return err
	}
	if !bytes.Contains(b.Bytes(), []byte(bashPackage)) {
		return errors.New("[unexpected] the completion script of bash is not what it was")
	}
	_, err := w.Write(bytes.Replace(b.Bytes(), []byte(bashPackage), []byte(bashAlone), 1))
	return err
}

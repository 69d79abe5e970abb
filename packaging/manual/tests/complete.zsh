# Prints what zsh offers for each line among the arguments. Completion works in an interactive shell only: one runs on a
# terminal of its own, and writes what would be offered into a file.
zmodload zsh/zpty
offers=$COMPLETIONS/offers
: >$offers
cat >$COMPLETIONS/inner.zsh <<'INNER'
unsetopt beep
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit
compinit -u -D
# Every match goes through this. Calls with these options work on arrays, and offer nothing.
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a hits
        builtin compadd -A hits "$@"
        print -rl -- $hits >>$COMPLETIONS/offers
    fi
    builtin compadd "$@"
}
offer() {
    zle list-choices
    print -r -- END >>$COMPLETIONS/offers
    zle kill-buffer
    ready
}
# A character that nobody types says that the shell waits for more.
ready() { print -n '\x04' }
zle -N zle-line-init ready
zle -N offer
bindkey '^X' offer
INNER
zpty inner zsh -f -i
type() {
    zpty -w -n inner "$1"
    zpty -r inner answer $'*\x04*' || { print -u2 "zsh ended early"; exit 1 }
}
type $'. $COMPLETIONS/inner.zsh\n'
for line in "$@"; do
    type "$line"$'\x18'
done
zpty -d inner
cat $offers

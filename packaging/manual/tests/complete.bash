# Prints what bash offers for each line among the arguments.
set -eu
. "$COMPLETIONS/forebay.bash"
[[ $(complete -p forebay) == 'complete -F _forebay forebay' ]]
for line in "$@"; do
    # As readline does: = is a word of its own.
    read -ra COMP_WORDS <<<"${line//=/ = }"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    # compopt fails, for this is no completion.
    _forebay || true
    [[ ${#COMPREPLY[@]} -eq 0 ]] || printf '%s\n' "${COMPREPLY[@]}"
    echo END
done

# SPDX-License-Identifier: Apache-2.0

# LM_TRY_CFLAGS(VARIABLE, FLAGS): the flags that the compiler knows.
# clang only warns about unknown warnings unless told to fail.
AC_DEFUN([LM_TRY_CFLAGS], [
lm_saved_CFLAGS=$CFLAGS
$1=
for lm_flag in $2; do
  CFLAGS="$lm_saved_CFLAGS -Werror $lm_flag"
  AC_MSG_CHECKING([whether $CC accepts $lm_flag])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM],
    [$1="$$1 $lm_flag"
     AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
done
CFLAGS=$lm_saved_CFLAGS
AC_SUBST([$1])])

# LM_REQUIRE_FUNC(FUNCTION, LIBS, MESSAGE)
AC_DEFUN([LM_REQUIRE_FUNC], [
lm_saved_LIBS=$LIBS
LIBS="$2 $LIBS"
AC_CHECK_FUNC([$1], , [AC_MSG_ERROR([$3])])
LIBS=$lm_saved_LIBS])

# LM_FIND_LIB(PREFIX, LIBRARY, FUNCTION, MESSAGE): sets PREFIX_LIBS.
AC_DEFUN([LM_FIND_LIB], [
LM_REQUIRE_FUNC([$3], [-l$2], [$4])
$1_LIBS=-l$2
AC_SUBST([$1_LIBS])
AC_SUBST([$1_CFLAGS])])
